//! One connection from another site, up to its end.

use std::{net::SocketAddr, sync::Arc};

use renkei_runtime::drain::DrainGuard;
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::{
    backend,
    handshake::{self, Admitted, Greeting, Rejection},
};
use crate::{
    flows::{Direction, Pair},
    kafka,
    relay::{self, End, Link},
    revocation,
    shared::Shared,
};

pub(super) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    guard: DrainGuard,
    turn: Option<OwnedSemaphorePermit>,
) {
    let id = shared.flows.next_id();
    let greeting = tokio::select! {
        biased;
        () = shared.drain.forced() => return,
        greeting = handshake::greet(stream, peer, id, &shared) => greeting,
    };
    drop(turn);
    match greeting {
        Greeting::Gone => {}
        Greeting::Elsewhere(start) => tokio::select! {
            biased;
            () = shared.drain.forced() => {}
            () = (shared.elsewhere)(*start) => {}
        },
        Greeting::Refused(Rejection { service, fault }) => {
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
        Greeting::Admitted(admitted) => carry(*admitted, (id, peer), &shared, guard).await,
    }
}

async fn carry(
    admitted: Admitted,
    (id, peer): (u64, SocketAddr),
    shared: &Arc<Shared>,
    guard: DrainGuard,
) {
    let Admitted {
        stream,
        caller,
        service,
        node,
        svid_not_after,
        desired,
    } = admitted;
    let pair = Pair {
        direction: Direction::Inbound,
        caller,
        callee: service.id.clone(),
    };
    let parent = (&CancellationToken::new(), guard);
    let ticket = shared.flows.open(id, pair, peer, svid_not_after, parent);
    let flow = &ticket.flow;
    revocation::recheck(flow, Some(&desired), shared);
    let backend = tokio::select! {
        biased;
        () = flow.cut_token().cancelled() => return stream.arm_reset(),
        backend = backend::reach(&service, node, shared) => backend,
    };
    let backend = match backend {
        Ok(backend) => backend,
        Err(down) => {
            stream.arm_reset();
            let who = flow.pair.caller.short();
            let (service, reason) = (&service.name, "backend_unavailable");
            shared
                .refusals
                .record(Direction::Inbound, service, who, reason, down.to_string());
            return;
        }
    };
    tracing::debug!(flow = id, caller = %flow.pair.caller, service = service.name, "opened");
    let session = backend::session(&service, shared)
        .map(|session| -> Box<dyn relay::Session> { Box::new(session) });
    let end = relay::relay(backend, stream, session, &flow.traffic, flow.cut_token()).await;
    tracing::debug!(flow = id, ?end, cut = flow.cut_reason(), "closed");
    if let End::Broken { error, .. } = &end
        && let Some(error) = kafka::session_error(error)
    {
        let (who, sentence) = (flow.pair.caller.short(), error.to_string());
        shared.refusals.record(
            Direction::Inbound,
            &service.name,
            who,
            error.label(),
            sentence,
        );
    }
}
