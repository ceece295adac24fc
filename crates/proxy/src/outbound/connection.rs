//! One connection of a local workload: attested, given its identity, carried to the other site.

use std::{net::SocketAddr, sync::Arc};

use renkei_runtime::drain::DrainGuard;
use tokio::net::TcpStream;

use super::{
    Route, Routes,
    dial::{self, Dialled},
    failure::Failure,
};
use crate::{
    flows::{Direction, Flow, Pair},
    kafka::CallerSession,
    local_caller::{self, Caller},
    plain::PlainStream,
    relay::{self, End, Side},
    revocation,
    shared::Shared,
    tcp_info,
};

pub(super) async fn run(
    app: TcpStream,
    (peer, caller): (SocketAddr, Option<Caller>),
    (routes, node): (Routes, Option<i32>),
    shared: Arc<Shared>,
    guard: DrainGuard,
) {
    let route = routes.load_full();
    let opened = tokio::select! {
        biased;
        () = shared.drain.forced() => return,
        () = route.cut.cancelled() => return,
        opened = open(&app, caller, &route, node, &shared) => opened,
    };
    match opened {
        Ok(dialled) => carry(app, dialled, (&route, &routes), &shared, guard).await,
        Err(failure) => {
            drop(app);
            record(&failure, who(&failure, peer, &route), &route, &shared);
        }
    }
}

async fn open(
    app: &TcpStream,
    caller: Option<Caller>,
    route: &Arc<Route>,
    node: Option<i32>,
    shared: &Arc<Shared>,
) -> Result<Dialled, Failure> {
    let caller = caller.ok_or(Failure::CallerGone)?;
    attest(app, caller, route, shared).await?;
    local_caller::release_end(app);
    dial::dial(route, node, shared).await
}

/// Asks the kernel whose connection it is. Whoever was found is its caller only if it is open
/// afterwards: the bytes of a connection that was reset are those of a process that left.
async fn attest(
    app: &TcpStream,
    caller: Caller,
    route: &Arc<Route>,
    shared: &Arc<Shared>,
) -> Result<(), Failure> {
    look_up(caller, route, shared).await?;
    match tcp_info::is_open(app) {
        true => Ok(()),
        false => Err(Failure::CallerGone),
    }
}

/// Compares the caller with the selectors, where blocking is allowed if it must be.
async fn look_up(caller: Caller, route: &Arc<Route>, shared: &Arc<Shared>) -> Result<(), Failure> {
    if caller.is_plainly(&route.selectors) {
        return Ok(());
    }
    let (route, shared) = (route.clone(), shared.clone());
    let asked =
        tokio::task::spawn_blocking(move || caller.attest(&route.selectors, &shared.digests));
    match asked.await {
        Ok(answer) => answer.map(drop).map_err(Failure::Caller),
        Err(_) => Err(Failure::CallerGone),
    }
}

async fn carry(
    app: TcpStream,
    dialled: Dialled,
    (route, routes): (&Arc<Route>, &Routes),
    shared: &Arc<Shared>,
    guard: DrainGuard,
) {
    let pair = Pair {
        direction: Direction::Outbound,
        caller: route.caller.clone(),
        callee: route.target.clone(),
    };
    let Dialled {
        stream,
        kafka,
        carrier,
    } = dialled;
    let (id, gateway) = (shared.flows.next_id(), carrier.remote);
    let parent = (&route.cut, guard);
    let ticket = shared.flows.open(id, pair, carrier, parent);
    let flow = &ticket.flow;
    revocation::recheck(flow, None, shared);
    tracing::debug!(flow = flow.id, callee = %route.target, %gateway, "opened");
    let session = kafka.then(|| {
        let (brokers, routes) = (route.brokers.clone(), routes.clone());
        CallerSession::boxed(brokers, routes, shared.clone())
    });
    let app = PlainStream::new(app);
    let end = relay::relay(app, stream, session, &flow.traffic, flow.cut_token()).await;
    conclude(&end, flow, route, shared);
}

/// A peer that refuses the caller says so after our handshake is over (RFC 8446 4.4.2.4), which
/// shows here as an alert.
fn conclude(end: &End, flow: &Flow, route: &Route, shared: &Shared) {
    tracing::debug!(flow = flow.id, ?end, cut = flow.cut_reason(), "closed");
    let failure = match end {
        End::Broken {
            side: Side::Wan,
            error,
        } => Failure::from_alert(error)
            .or_else(|| Failure::from_stream(error))
            .or_else(|| Failure::from_session(error)),
        End::Broken {
            side: Side::App,
            error,
        } => Failure::from_session(error),
        End::Clean | End::Closed | End::Cut => None,
    };
    if let Some(failure) = failure {
        let who = who(&failure, flow.remote, route);
        record(&failure, who, route, shared);
    }
}

/// Whose failure it was: of a process that is not known to be the workload, only its address is.
fn who(failure: &Failure, peer: SocketAddr, route: &Route) -> String {
    match failure {
        Failure::Caller(_) | Failure::CallerGone => peer.to_string(),
        _ => route.caller.short(),
    }
}

/// Counts a failure and keeps its sentence.
pub(super) fn record(failure: &Failure, who: String, route: &Route, shared: &Shared) {
    let sentence = failure.sentence(&route.caller, &route.target);
    let service = route.target.short();
    shared.refusals.record(
        Direction::Outbound,
        &service,
        who,
        failure.label(),
        sentence,
    );
}
