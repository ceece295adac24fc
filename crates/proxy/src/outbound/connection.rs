//! One connection of a local workload: attested, given its identity, carried to the other site.

use std::{net::SocketAddr, sync::Arc};

use renkei_kafka::{Denial, Endpoint, SessionError};
use renkei_runtime::drain::DrainGuard;
use tokio::net::TcpStream;
use tracing::{Instrument, Span};

use super::{
    Outbound, Route, Routes,
    brokers::{Brokers, ServeBroker},
    dial::{self, Dialled},
    failure::{Failure, record},
};
use crate::{
    authorization::revocation,
    context::{Context, Flow, span},
    identity::Direction,
    local_caller::{self, Caller},
    relay::{self, End, Side},
    sessions::kafka::{CallerSession, LocalBrokers},
    sockets::{self, PlainStream},
};

/// The listener that a connection came to.
pub(super) struct LocalListener {
    pub(super) routes: Routes,
    /// The broker that it is for, if it is for one.
    pub(super) node: Option<i32>,
    pub(super) outbound: Arc<Outbound>,
    pub(super) serve_broker: ServeBroker,
}

/// Serves a connection to its end.
pub(super) async fn run(
    app: TcpStream,
    (peer, caller): (SocketAddr, Option<Caller>),
    listener: Arc<LocalListener>,
    guard: DrainGuard,
) {
    let (route, outbound) = (listener.routes.load_full(), &listener.outbound);
    let span = span::connection(&route.pair());
    let opened = tokio::select! {
        biased;
        () = outbound.context.drain.forced() => return,
        () = route.cut.cancelled() => return,
        opened = open(&app, caller, &route, listener.node, outbound).instrument(span.clone()) => opened,
    };
    match opened {
        Ok(dialled) => carry(app, dialled, (&route, &span), &listener, guard).await,
        Err(failure) => {
            // Before the connection is closed: who sees it end can read the reason at once.
            span.in_scope(|| record_failure(&failure, peer, &route, &outbound.context));
            drop(app);
        }
    }
}

async fn open(
    app: &TcpStream,
    caller: Option<Caller>,
    route: &Arc<Route>,
    node: Option<i32>,
    outbound: &Arc<Outbound>,
) -> Result<Dialled, Failure> {
    let caller = caller.ok_or(Failure::CallerGone)?;
    attest(app, caller, route, outbound).await?;
    local_caller::release_end(app);
    // Its memory is not kept for as long as the connection is open.
    let dialled = Box::pin(dial::dial(route, node, outbound));
    dialled.await.map_err(Failure::Dial)
}

/// Asks the kernel whose connection it is. The process that was found is its caller only if the connection is
/// open afterwards: the bytes of a connection that was reset are those of a process that left.
async fn attest(
    app: &TcpStream,
    caller: Caller,
    route: &Arc<Route>,
    outbound: &Arc<Outbound>,
) -> Result<(), Failure> {
    look_up(caller, route, outbound).await?;
    match sockets::is_open(app) {
        true => Ok(()),
        false => Err(Failure::CallerGone),
    }
}

/// Compares the caller with the selectors, where blocking is allowed if it must be.
async fn look_up(
    caller: Caller,
    route: &Arc<Route>,
    outbound: &Arc<Outbound>,
) -> Result<(), Failure> {
    if caller.is_plainly(&route.selectors) {
        return Ok(());
    }
    let (route, outbound) = (route.clone(), outbound.clone());
    let asked =
        tokio::task::spawn_blocking(move || caller.attest(&route.selectors, &outbound.attestors));
    match asked.await {
        Ok(answer) => answer.map(drop).map_err(Failure::Caller),
        Err(_) => Err(Failure::CallerGone),
    }
}

async fn carry(
    app: TcpStream,
    dialled: Dialled,
    (route, span): (&Arc<Route>, &Span),
    listener: &Arc<LocalListener>,
    guard: DrainGuard,
) {
    let context = &listener.outbound.context;
    let Dialled {
        stream,
        kafka,
        carrier,
    } = dialled;
    let (id, gateway) = (context.flows.next_id(), carrier.remote);
    let parent = (&route.cut, guard);
    let ticket = context.flows.open(id, route.pair(), carrier, parent);
    let flow = &ticket.flow;
    revocation::recheck(flow, None, context);
    span.record("flow", id);
    stream.record(span);
    span.in_scope(|| tracing::debug!(%gateway, "opened"));
    let session = kafka.then(|| -> Box<dyn relay::Session> {
        let brokers = RouteBrokers {
            brokers: route.brokers.clone(),
            listener: listener.clone(),
        };
        let state = &listener.outbound.kafka;
        Box::new(CallerSession::new(brokers, &route.caller, state))
    });
    let app = PlainStream::new(app);
    let end = relay::relay(app, stream, session, &flow.traffic, flow.cut_token()).await;
    span.in_scope(|| conclude(&end, flow, route, context));
}

/// A peer that refuses the caller says so after our handshake is over (RFC 8446 4.4.2.4), which
/// shows here as an alert.
fn conclude(end: &End, flow: &Flow, route: &Route, context: &Context) {
    tracing::debug!(?end, cut = flow.cut_reason(), "closed");
    let failure = match end {
        End::Broken {
            side: Side::Wan,
            error,
        } => Failure::of_stream(error),
        End::Broken {
            side: Side::App,
            error,
        } => Failure::of_session(error),
        End::Clean | End::Closed | End::Cut => None,
    };
    if let Some(failure) = failure {
        record_failure(&failure, flow.remote, route, context);
    }
}

fn record_failure(failure: &Failure, peer: SocketAddr, route: &Route, context: &Context) {
    let sentence = failure.sentence(&route.caller, &route.target);
    let who = who(failure, peer, route);
    record((failure.label(), sentence), who, route, context);
}

/// Whose failure it was: of a process that is not known to be the workload, only its address is.
fn who(failure: &Failure, peer: SocketAddr, route: &Route) -> String {
    match failure {
        Failure::Caller(_) | Failure::CallerGone => peer.to_string(),
        _ => route.caller.short(),
    }
}

/// The local addresses of the brokers behind a connection.
struct RouteBrokers {
    brokers: Arc<Brokers>,
    listener: Arc<LocalListener>,
}

impl LocalBrokers for RouteBrokers {
    fn endpoint(&mut self, node: i32) -> Option<Endpoint> {
        let LocalListener {
            routes,
            outbound,
            serve_broker,
            ..
        } = &*self.listener;
        let route = routes.load();
        let (service, kept) = (
            (route.listen, &route.target),
            outbound.broker_ports.as_ref(),
        );
        let port = self.brokers.port(node, service, kept, serve_broker)?;
        let host = route.listen.ip().to_string();
        Some(Endpoint { host, port })
    }

    fn denied(&mut self, denial: Denial) {
        let (route, outbound) = (self.listener.routes.load(), &self.listener.outbound);
        let (service, refusals) = (route.target.short(), &outbound.context.refusals);
        let of = (&route.caller, service.as_str());
        let denials = &outbound.kafka.denials;
        denials.record(Direction::Outbound, of, denial, refusals);
    }

    fn ended(&mut self, error: &SessionError) {
        let (route, outbound) = (self.listener.routes.load(), &self.listener.outbound);
        let failure = Failure::Session(error.clone());
        let sentence = failure.sentence(&route.caller, &route.target);
        let who = route.caller.short();
        record((failure.label(), sentence), who, &route, &outbound.context);
    }
}
