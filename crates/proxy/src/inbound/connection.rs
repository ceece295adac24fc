//! One connection from another site, up to its end.

use std::{net::SocketAddr, sync::Arc};

use renkei_policy::Operation;
use renkei_runtime::drain::DrainGuard;
use renkei_site::{Protocol, Service};
use renkei_spiffe::SpiffeId;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{
    backend,
    handshake::{self, Admitted, Greeting, Rejection},
    http,
    linked::Linked,
    turns::Place,
};
use crate::{
    credentials::Fault,
    decision,
    flows::{Carrier, Direction, Flow, Pair},
    hub, kafka,
    plain::PlainStream,
    relay::{self, End},
    revocation,
    shared::{Desired, Shared},
    trunk::{self, Taken, TrunkStream},
    wan::WanStream,
};

pub(super) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    guard: DrainGuard,
    place: Place,
) {
    let id = shared.flows.next_id();
    let greeting = tokio::select! {
        biased;
        () = shared.drain.forced() => return,
        greeting = async {
            let _turn = place.turn().await;
            handshake::greet(stream, peer, id, &shared).await
        } => greeting,
    };
    match greeting {
        Greeting::Gone => {}
        Greeting::Relayed(stream, bytes, site) => tokio::select! {
            biased;
            () = shared.drain.forced() => {}
            unreached = hub::pass(stream, bytes, (peer, site), &shared) => {
                if let Some(stream) = unreached {
                    handshake::let_read_alert(stream).await;
                }
            }
        },
        Greeting::Linked(linked) => {
            // As with lanes: what matters is what passes.
            drop(guard);
            let Linked {
                stream,
                peer: site,
                own,
                credentials,
            } = *linked;
            if let Err(error) = hub::serve_link(stream, credentials, (site, own), &shared).await {
                tracing::debug!(%peer, %error, "a connection of a link broke");
            }
        }
        Greeting::Elsewhere(start) => tokio::select! {
            biased;
            () = shared.drain.forced() => {}
            () = (shared.elsewhere)(*start) => {}
        },
        Greeting::Refused(rejection) => refuse(rejection, peer, &shared).await,
        Greeting::Admitted(admitted) => serve(*admitted, (id, peer), &shared, guard).await,
    }
}

/// Serves a verified caller: as a lane of a trunk, or as one connection of its own.
async fn serve(
    admitted: Admitted,
    (id, peer): (u64, SocketAddr),
    shared: &Arc<Shared>,
    guard: DrainGuard,
) {
    if trunk::is_trunk(admitted.stream.get_ref().1.alpn_protocol()) {
        // The lane is no flow: its streams are.
        drop(guard);
        return serve_trunk(admitted, peer, shared).await;
    }
    let Admitted {
        stream,
        caller,
        service,
        node,
        credentials,
        desired,
    } = admitted;
    let call = Call {
        caller,
        service,
        node,
        carrier: Carrier::session(peer, credentials),
        desired,
    };
    let stream = WanStream::session(stream);
    carry(stream, call, id, shared, guard).await;
}

/// Remembers why, and gives the peer time to read the alert.
async fn refuse(rejection: Rejection, peer: SocketAddr, shared: &Shared) {
    let Rejection { service, fault } = rejection;
    let who = fault
        .peer
        .map_or_else(|| peer.to_string(), |peer| peer.short());
    let refusals = &shared.refusals;
    refusals.record(
        Direction::Inbound,
        &service,
        who,
        fault.reason,
        fault.sentence,
    );
    if let Some(stream) = fault.stream {
        tokio::select! {
            () = shared.drain.forced() => {}
            () = handshake::let_read_alert(stream) => {}
        }
    }
}

/// Who calls what, and under which state that was allowed.
struct Call {
    caller: SpiffeId,
    service: Service,
    node: Option<i32>,
    carrier: Carrier,
    desired: Arc<Desired>,
}

/// Serves a lane; every stream of its trunk is decided about and carried like a connection.
async fn serve_trunk(admitted: Admitted, peer: SocketAddr, shared: &Arc<Shared>) {
    let Admitted {
        stream,
        caller,
        service,
        credentials,
        ..
    } = admitted;
    let pair = Pair {
        direction: Direction::Inbound,
        caller: caller.clone(),
        callee: service.id.clone(),
    };
    let source = Arc::new(Source {
        caller,
        service,
        peer,
        shared: shared.clone(),
    });
    let lane = trunk::Caller {
        pair,
        decide: Arc::new({
            let source = source.clone();
            move |fault| source.decide(fault)
        }),
        admit: Arc::new(move |stream, taken, guard| {
            let source = source.clone();
            Box::pin(async move { source.carry(stream, taken, guard).await })
        }),
        watch: None,
    };
    if let Err(error) = trunk::serve_lane(stream, credentials, lane, shared).await {
        tracing::debug!(%peer, %error, "a lane broke");
    }
}

/// Where the streams of a trunk come from.
struct Source {
    caller: SpiffeId,
    service: Service,
    peer: SocketAddr,
    shared: Arc<Shared>,
}

impl Source {
    /// Asks what a new handshake would ask: the certificates, of whose `fault` it learns, the peers
    /// and today's policy. Gives the number of the flow; the error is for the peer, and says no
    /// more than an alert would.
    fn decide(&self, fault: Option<&Fault>) -> Result<u64, String> {
        let (caller, service) = (&self.caller, &self.service);
        let refuse = |reason: &'static str, sentence: String| {
            let refusals = &self.shared.refusals;
            refusals.record(
                Direction::Inbound,
                &service.name,
                caller.short(),
                reason,
                sentence,
            );
            Err("its policy does not allow this caller".to_owned())
        };
        if let Some(fault) = fault {
            let _ = refuse(fault.label(), fault.to_string());
            return Err(
                "it no longer accepts this caller's certificate, or has no valid one itself"
                    .to_owned(),
            );
        }
        let Some(desired) = self.shared.desired.load_full() else {
            return refuse("no_policy", format!("{} has no policy", service.name));
        };
        if let Err(denied) = revocation::check_linked(&desired.site, caller) {
            return refuse(denied.label, denied.reason);
        }
        let Some(policy) = desired.policies.get(&service.name) else {
            return refuse(
                "no_policy",
                format!("{} is not offered any more", service.name),
            );
        };
        let source = self.peer.ip().to_canonical();
        let decision = decision::decide(policy, &service.id, caller, Operation::Connect, source);
        let flow = self.shared.flows.next_id();
        decision::log(caller, &service.id, Operation::Connect, &decision, flow);
        match decision.allowed {
            true => Ok(flow),
            false => refuse("not_allowed", decision.reason),
        }
    }

    async fn carry(&self, stream: TrunkStream, taken: Taken, guard: DrainGuard) {
        let shared = &self.shared;
        let Some(desired) = shared.desired.load_full() else {
            return;
        };
        // As the site file has it now.
        let Some(service) = desired.site.services.get(&self.service.name).cloned() else {
            return;
        };
        let call = Call {
            caller: self.caller.clone(),
            service,
            node: taken.node,
            carrier: Carrier::trunk(self.peer, taken.svid_not_after),
            desired,
        };
        let stream = WanStream::Trunk(stream);
        carry(stream, call, taken.number, shared, guard).await;
    }
}

async fn carry(stream: WanStream, call: Call, id: u64, shared: &Arc<Shared>, guard: DrainGuard) {
    let Call {
        caller,
        service,
        node,
        carrier,
        desired,
    } = call;
    let pair = Pair {
        direction: Direction::Inbound,
        caller,
        callee: service.id.clone(),
    };
    let parent = (&CancellationToken::new(), guard);
    let ticket = shared.flows.open(id, pair, carrier, parent);
    let flow = &ticket.flow;
    revocation::recheck(flow, Some(&desired), shared);
    if service.protocol == Protocol::Http {
        tracing::debug!(flow = id, caller = %flow.pair.caller, service = service.name, "opened");
        http::serve(stream, flow, &service.name, shared).await;
        tracing::debug!(flow = id, cut = flow.cut_reason(), "closed");
        return;
    }
    let backend = tokio::select! {
        biased;
        () = flow.cut_token().cancelled() => return,
        backend = backend::reach(&service, node, shared) => backend,
    };
    let backend = match backend {
        Ok(backend) => backend,
        Err(down) => {
            drop(stream);
            let who = flow.pair.caller.short();
            let (service, reason) = (&service.name, "backend_unavailable");
            shared
                .refusals
                .record(Direction::Inbound, service, who, reason, down.to_string());
            return;
        }
    };
    tracing::debug!(flow = id, caller = %flow.pair.caller, service = service.name, "opened");
    let session = backend::session(&service, Some(&flow.pair.caller), shared)
        .map(|session| -> Box<dyn relay::Session> { Box::new(session) });
    let backend = PlainStream::new(backend);
    let end = relay::relay(backend, stream, session, &flow.traffic, flow.cut_token()).await;
    tracing::debug!(flow = id, ?end, cut = flow.cut_reason(), "closed");
    record_session(&end, flow, &service.name, shared);
}

/// Remembers a Kafka session that was ended for what was said in it.
fn record_session(end: &End, flow: &Flow, service: &str, shared: &Shared) {
    if let End::Broken { error, .. } = end
        && let Some(error) = kafka::session_error(error)
    {
        let (who, sentence) = (flow.pair.caller.short(), error.to_string());
        let refusals = &shared.refusals;
        refusals.record(Direction::Inbound, service, who, error.label(), sentence);
    }
}
