//! Cutting open connections that a change has taken the right from.

use std::sync::Arc;

use renkei_policy::Operation;
use renkei_runtime::clock;
use renkei_site::{ProxyPart, Service};
use renkei_spiffe::{Denied, Identities, PeerError, SpiffeId};
use time::OffsetDateTime;

use super::{decide, log};
use crate::{
    config::Desired,
    context::{Context, Flow},
    identity::{Direction, Fault},
};

/// Why the last connections end.
pub(crate) const PROCESS_ENDS: &str = "the process ends";

/// Why a connection must end under a new desired state, if it must.
pub(crate) fn by_site(
    flow: &Flow,
    old: Option<&Desired>,
    desired: &Desired,
) -> Option<&'static str> {
    if !is_linked(&desired.site, flow.pair.remote()) {
        return Some("its site is no longer a peer");
    }
    match flow.pair.direction {
        Direction::Inbound => by_policy(flow, old, desired),
        // Its route cuts it.
        Direction::Outbound => None,
    }
}

/// Whether a peer is of this site, or of one that this site is linked with.
pub(crate) fn is_linked(site: &ProxyPart, peer: &SpiffeId) -> bool {
    let name = peer.trust_domain();
    *name == site.trust_domain || site.peers.contains_key(name)
}

/// The same as an authorizer says it.
pub(crate) fn check_linked(site: &ProxyPart, peer: &SpiffeId) -> Result<(), Denied> {
    if is_linked(site, peer) {
        return Ok(());
    }
    Err(Denied {
        label: "not_a_peer",
        reason: format!("{} is not a peer of this site", peer.trust_domain()),
    })
}

fn service_of<'a>(flow: &Flow, desired: &'a Desired) -> Option<&'a Service> {
    let mut services = desired.site.services.values();
    services.find(|service| service.id == flow.pair.callee)
}

fn by_policy(flow: &Flow, old: Option<&Desired>, desired: &Desired) -> Option<&'static str> {
    let callee = &flow.pair.callee;
    let Some(service) = service_of(flow, desired) else {
        return Some("the service is no longer offered");
    };
    // A session of the old protocol would pass by the rules of the new one.
    let before = old.and_then(|old| service_of(flow, old));
    if before.is_some_and(|before| before.protocol != service.protocol) {
        return Some("the service speaks another protocol now");
    }
    let rights = |service: &Service| {
        let topics = service.topics.as_ref()?;
        Some(topics.get(&flow.pair.caller).cloned())
    };
    if before.is_some_and(|before| rights(before) != rights(service)) {
        return Some("its topic rights have changed");
    }
    let Some(policy) = desired.policies.get(&service.name) else {
        return Some("the service has no policy");
    };
    let source = flow.remote.ip().to_canonical();
    let (caller, operation) = (&flow.pair.caller, Operation::Connect);
    let decision = decide(policy, callee, caller, operation, source);
    if decision.allowed {
        return None;
    }
    log(caller, callee, operation, &decision, flow.id);
    Some("the policy no longer allows the caller")
}

/// What ends a connection with the identities of now, if anything does. The certificates of one
/// within a trunk are the trunk's.
pub(crate) fn by_identities(
    flow: &Flow,
    identities: &Arc<Identities>,
    now: OffsetDateTime,
) -> Option<Fault> {
    let own = || match identities.valid_svid(flow.pair.own(), now) {
        Ok(_) => Ok(()),
        Err(fault) => Err(Fault::Own(fault)),
    };
    let session = || match &flow.session {
        Some(session) => session.check_identities(identities, now),
        None => Ok(()),
    };
    let remote = flow.pair.remote();
    let bundle = || match identities.bundles.get(remote.trust_domain()) {
        Some(_) => Ok(()),
        None => Err(Fault::Peer(PeerError::UnknownTrustDomain(remote.clone()))),
    };
    // A session knows of ends that a missing SVID hides.
    let all = session().and_then(|()| own()).and_then(|()| bundle());
    all.err().filter(Fault::ends_what_is_open)
}

/// For a connection that was admitted under `then` and has been entered into the register only
/// now: what changed in between has not seen it.
pub(crate) fn recheck(flow: &Flow, then: Option<&Arc<Desired>>, context: &Context) {
    let now = context.desired.load_full();
    if let Some(now) = now.filter(|now| !then.is_some_and(|then| Arc::ptr_eq(now, then)))
        && let Some(reason) = by_site(flow, then.map(Arc::as_ref), &now)
    {
        flow.cut(reason);
    }
    let now = clock::now();
    if let Some(fault) = by_identities(flow, &context.identities(), now) {
        flow.cut(fault.cut_reason());
    }
    if context.drain.is_forced() {
        flow.cut(PROCESS_ENDS);
    }
}
