//! Cutting open connections that a change has taken the right from.

use std::sync::Arc;

use renkei_spiffe::BundleSet;

use crate::{
    decision,
    flows::{Direction, Flow},
    shared::{Desired, Shared},
};

/// Why the last connections end.
pub(crate) const PROCESS_ENDS: &str = "the process ends";

/// Why a connection must end under a new desired state, if it must.
pub(crate) fn by_site(flow: &Flow, desired: &Desired) -> Option<&'static str> {
    let remote = flow.pair.remote().trust_domain();
    let site = &desired.site;
    if *remote != site.trust_domain && !site.peers.contains_key(remote) {
        return Some("its site is no longer a peer");
    }
    match flow.pair.direction {
        Direction::Inbound => by_policy(flow, desired),
        // Its route cuts it.
        Direction::Outbound => None,
    }
}

fn by_policy(flow: &Flow, desired: &Desired) -> Option<&'static str> {
    let callee = &flow.pair.callee;
    let service = desired
        .site
        .services
        .values()
        .find(|service| service.id == *callee);
    let Some(service) = service else {
        return Some("the service is no longer offered");
    };
    let Some(policy) = desired.policies.get(&service.name) else {
        return Some("the service has no policy");
    };
    let source = flow.remote.ip().to_canonical();
    let decision = decision::decide(policy, callee, &flow.pair.caller, source);
    if decision.allowed {
        return None;
    }
    decision::log(&flow.pair.caller, callee, &decision, flow.id);
    Some("the policy no longer allows the caller")
}

/// Why a connection must end under a new set of bundles, if it must.
pub(crate) fn by_bundles(flow: &Flow, bundles: &BundleSet) -> Option<&'static str> {
    let remote = flow.pair.remote().trust_domain();
    bundles
        .get(remote)
        .is_none()
        .then_some("the bundle of its site was withdrawn")
}

/// For a connection that was admitted under `then` and has been entered into the register only
/// now: what changed in between has not seen it.
pub(crate) fn recheck(flow: &Flow, then: Option<&Arc<Desired>>, shared: &Shared) {
    let now = shared.desired.load_full();
    if let Some(now) = now.filter(|now| !then.is_some_and(|then| Arc::ptr_eq(now, then)))
        && let Some(reason) = by_site(flow, &now)
    {
        flow.cut(reason);
    }
    if let Some(reason) = by_bundles(flow, &shared.identities().bundles) {
        flow.cut(reason);
    }
    if shared.drain.is_forced() {
        flow.cut(PROCESS_ENDS);
    }
}
