//! The end that dials out: keeps a link to a hub or to a gateway of the own site, and takes the
//! connections that come by it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use renkei_runtime::backoff::Backoff;
use renkei_site::{HostPort, ProxyPart};
use renkei_spiffe::SpiffeId;
use renkei_trunk::Code;
use rustls::AlertDescription;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{ALPN_RELAY, LinkState, link_state::LinkTrunk, loopback_bridge::LoopbackBridge};
use crate::{
    admission::{Admission, Denied, Source},
    context::Context,
    identity::{Direction, Pair},
    tls::{DialFailure, GatewayPath, NO_SERVICE, dial_peer},
    trunk::{
        Connector, IncomingStream, LaneConnection, LaneDialer, OpenError, TrunkEvent, TrunkHandle,
    },
};

/// The backoff after a failed attempt; it doubles up to the longest. After a link that was up for
/// longer than that it begins again.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After the last connection of this site has ended, what is still on its way has so long.
const LAST_BYTES: Duration = Duration::from_millis(500);

/// What to be linked with, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    own: SpiffeId,
    far: SpiffeId,
    /// Nothing while the site does not know it.
    gateway: Option<HostPort>,
}

impl Target {
    /// The hub of a site, if it has one, and the gateways of the own site that lead to this
    /// process.
    pub(crate) fn all(site: &ProxyPart) -> Vec<Self> {
        let gateways = site.links.iter().map(|link| Self {
            own: site.link_id.clone(),
            far: link.id.clone(),
            gateway: Some(link.gateway.clone()),
        });
        Self::hub(site).into_iter().chain(gateways).collect()
    }

    fn hub(site: &ProxyPart) -> Option<Self> {
        let via = site.gateway.as_ref()?.via.clone()?;
        Some(Self {
            gateway: site.gateway_of(&via),
            far: SpiffeId::with_path(via, site.server_id.path()).ok()?,
            own: site.link_id.clone(),
        })
    }

    /// Whether it is the hub of this site; otherwise it is a gateway of the own site.
    pub(super) fn is_hub(&self) -> bool {
        self.far.trust_domain() != self.own.trust_domain()
    }

    /// Who is dialled.
    pub(super) fn far(&self) -> &SpiffeId {
        &self.far
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        match self.is_hub() {
            true => self.far.trust_domain().to_string(),
            false => self.far.short(),
        }
    }

    pub(super) fn gateway(&self) -> Option<&HostPort> {
        self.gateway.as_ref()
    }

    fn pair(&self) -> Pair {
        Pair {
            direction: Direction::Outbound,
            caller: self.own.clone(),
            callee: self.far.clone(),
        }
    }

    fn sentence_of(&self, error: OpenError<DialFailure>) -> String {
        let failure = match &self.gateway {
            Some(gateway) => DialFailure::of_trunk(error, gateway),
            None => DialFailure::NoGateway,
        };
        self.sentence(&failure)
    }

    /// Why there is no link, in the words of one.
    fn sentence(&self, failure: &DialFailure) -> String {
        let (name, own) = (self.name(), self.own.short());
        match (failure, self.is_hub()) {
            (DialFailure::Alert(AlertDescription::AccessDenied), true) => {
                format!("{name} relays only for sites under `relays` in its site file")
            }
            (DialFailure::Alert(AlertDescription::AccessDenied), false) => {
                format!("{name} takes no link of {own}: it knows of no service there")
            }
            (DialFailure::Alert(AlertDescription::NoApplicationProtocol), true) => {
                format!("{name} is not a hub: its gateway does not accept links")
            }
            (
                DialFailure::NoSuchService
                | DialFailure::Alert(AlertDescription::NoApplicationProtocol),
                false,
            ) => {
                let gateway = self.gateway.as_ref().map(ToString::to_string);
                format!(
                    "at {} there is not the gateway of {name}; check `advertise`",
                    gateway.unwrap_or_default()
                )
            }
            (other, _) => other.sentence(&self.own, &self.far),
        }
    }
}

/// What a link needs of its proxy.
#[derive(Debug, Clone)]
pub(super) struct LinkParts {
    pub(super) context: Arc<Context>,
    pub(super) admission: Arc<Admission>,
    pub(super) connector: Arc<Connector>,
    /// Takes the connections that come by the link.
    pub(super) bridge: Arc<LoopbackBridge>,
}

/// A link that is kept until it is dropped. Its connections end with it.
#[derive(Debug)]
pub(crate) struct HubLink {
    pub(crate) target: Target,
    pub(crate) state: Arc<LinkState>,
    stop: CancellationToken,
}

impl HubLink {
    pub(super) fn start(target: Target, parts: LinkParts) -> Self {
        let state = Arc::new(LinkState::new(&target.name(), "it is being dialled"));
        let dialer = LinkDialer {
            target: target.clone(),
            state: state.clone(),
            context: parts.context.clone(),
            admission: parts.admission.clone(),
        };
        Self::keep(target, state, Arc::new(dialer), parts)
    }

    /// Keeps a link whose lanes `dialer` dials.
    fn keep<D: LaneDialer<Error = DialFailure>>(
        target: Target,
        state: Arc<LinkState>,
        dialer: Arc<D>,
        parts: LinkParts,
    ) -> Self {
        let stop = CancellationToken::new();
        let (tasks, drain) = (parts.context.tasks.clone(), parts.context.drain.clone());
        let keeper = Arc::new(Keeper {
            target: target.clone(),
            state: state.clone(),
            dialer,
            parts,
        });
        let token = stop.clone();
        let over = move || token.is_cancelled() || drain.is_signaled();
        let token = stop.clone();
        tasks.keep("link to a gateway", over, move || {
            let (keeper, stop) = (keeper.clone(), token.clone());
            async move { keeper.run(stop).await }
        });
        Self {
            target,
            state,
            stop,
        }
    }
}

impl Drop for HubLink {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Keeper<D> {
    target: Target,
    state: Arc<LinkState>,
    dialer: Arc<D>,
    parts: LinkParts,
}

/// Ends the trunk of a link that is given up.
struct Closing(TrunkHandle);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0
            .close(Code::STOPPING, "the link is not wanted any more");
    }
}

impl<D: LaneDialer<Error = DialFailure>> Keeper<D> {
    async fn run(&self, stop: CancellationToken) {
        let drain = self.parts.context.drain.clone();
        let mut identities = self.parts.context.identities.clone();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let began = Instant::now();
            // What is there now is what it is dialled with.
            identities.mark_unchanged();
            let ended = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                ended = self.serve() => ended,
            };
            self.state.lost(&ended);
            if began.elapsed() > LONGEST_PAUSE {
                backoff.succeeded();
            }
            // With jitter: the many of a gateway that was away do not return as one.
            let pause = backoff.failed();
            tokio::select! {
                () = stop.cancelled() => return,
                () = drain.signaled() => return,
                // A bundle or an SVID may have been what was missing.
                changed = identities.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// What has still to come before there can be a link.
    fn awaited(&self) -> Option<String> {
        let (own, hub) = (&self.target.own, self.target.far.trust_domain());
        let identities = self.parts.context.identities();
        if let Err(fault) = self.parts.context.svid(own) {
            return Some(fault.to_string());
        }
        if identities.bundles.get(hub).is_none() {
            return Some(format!("the bundle of {hub} is not known"));
        }
        let unknown = self.target.gateway.is_none();
        unknown.then(|| format!("the gateway of {hub} is not known"))
    }

    /// One link, from dialling to its end; says why it ended.
    async fn serve(&self) -> String {
        if let Some(awaited) = self.awaited() {
            return awaited;
        }
        let (connector, pair) = (&self.parts.connector, self.target.pair());
        let kept = connector.keep(&pair, &self.dialer).await;
        let (mut events, address) = match kept {
            Ok(kept) => kept,
            Err(error) => return self.target.sentence_of(error),
        };
        let closing = Closing(events.handle().clone());
        let cut = CancellationToken::new();
        let _usable = self.state.usable(LinkTrunk {
            trunk: events.handle().clone(),
            gateway: address,
            cut: cut.clone(),
        });
        let _cut = cut.clone().drop_guard();
        let mut identities = self.parts.context.identities.clone();
        let leave = self.leave(&closing.0);
        tokio::pin!(leave);
        let mut why = "the connection has ended".to_owned();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    None => return why,
                    Some(TrunkEvent::Ended(reason)) => {
                        return format!("the link has ended: {reason}");
                    }
                    Some(TrunkEvent::Ready) => self.state.linked(),
                    Some(TrunkEvent::Suspended) => {
                        "every connection to it was lost".clone_into(&mut why);
                        self.state.lost(&why);
                    }
                    Some(TrunkEvent::GoingAway) => {}
                    Some(TrunkEvent::Stream(stream)) => self.admit(stream, address, &cut),
                },
                changed = identities.changed() => match self.awaited() {
                    Some(awaited) => return awaited,
                    None if changed.is_err() => return "the process is ending".to_owned(),
                    None => {}
                },
                () = &mut leave => return "this side is stopping".to_owned(),
            }
        }
    }

    /// Takes a connection that the hub or gateway at this address brings.
    fn admit(&self, incoming: IncomingStream, address: SocketAddr, cut: &CancellationToken) {
        // Its word, and no more than that.
        let from = std::str::from_utf8(&incoming.target).ok();
        let from: Option<SocketAddr> = from.and_then(|text| text.parse().ok());
        let source = Source::by_link(address, from);
        let refuse = |incoming: IncomingStream, code, denied: Denied| {
            incoming.refuse(code, &denied.sentence);
            let (direction, who) = (Direction::Inbound, source.to_string());
            let refusals = &self.parts.context.refusals;
            refusals.record(direction, NO_SERVICE, who, denied.reason, denied.sentence);
        };
        if self.parts.context.drain.is_signaled() {
            let denied = Denied::new("stopping", "the site is stopping");
            return refuse(incoming, Code::STOPPING, denied);
        }
        let place = match self.parts.admission.brought(&source) {
            Ok(place) => place,
            Err(denied) => return refuse(incoming, Code::BUSY, denied),
        };
        if let Err(fault) = incoming.check() {
            let sentence = format!("the certificates of the link are not valid any more: {fault}");
            let denied = Denied::new(fault.label(), sentence);
            return refuse(incoming, Code::REVOKED, denied);
        }
        let Some(stream) = incoming.accept() else {
            return;
        };
        tracing::debug!(link = self.state.name(), %source, "a connection comes by a link");
        let (state, parts, cut) = (self.state.clone(), self.parts.clone(), cut.clone());
        let counted = state.count();
        tokio::spawn(async move {
            let (bridge, context) = (&parts.bridge, &parts.context);
            bridge.carry(stream, source, &state, &cut, context).await;
            drop((place, counted));
        });
    }

    /// Ends when the process stops and this side has no bytes left to send. The other end is
    /// informed at once that no connections are taken.
    async fn leave(&self, trunk: &TrunkHandle) {
        let context = &self.parts.context;
        let guard = context.drain.guard();
        context.drain.signaled().await;
        trunk.go_away();
        while !context.flows.list().is_empty() {
            tokio::time::sleep(LAST_BYTES / 5).await;
        }
        tokio::time::sleep(LAST_BYTES).await;
        drop(guard);
    }
}

/// Dials the lanes of a link.
struct LinkDialer {
    target: Target,
    state: Arc<LinkState>,
    context: Arc<Context>,
    admission: Arc<Admission>,
}

impl LinkDialer {
    async fn connect(&self) -> Result<LaneConnection, DialFailure> {
        let target = &self.target;
        let gateway = target.gateway.as_ref().ok_or(DialFailure::NoGateway)?;
        let by = (&*self.context, &*self.admission);
        let name = target.far.trust_domain().as_str();
        let to = (gateway, GatewayPath::Direct);
        let dialled = dial_peer(&target.pair(), name, to, &ALPN_RELAY, by).await;
        if let Err(failure) = &dialled
            && !self.state.condition().linked
        {
            self.state.lost(&target.sentence(failure));
        }
        dialled
    }
}

impl LaneDialer for LinkDialer {
    type Error = DialFailure;

    fn dial(&self) -> BoxFuture<'_, Result<LaneConnection, DialFailure>> {
        Box::pin(self.connect())
    }

    /// Only a trunk is offered; the HELLO decides about a hub that chooses nothing.
    fn is_lane(&self, _alpn: Option<&[u8]>) -> bool {
        true
    }

    /// The state of the link has the loss already, and the attempts after the grace time say why.
    fn failed(&self, _error: &DialFailure) {}
}

#[cfg(test)]
mod tests;
