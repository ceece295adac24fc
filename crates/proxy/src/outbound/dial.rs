//! Opening a stream from a local caller to a service: within the trunk that leads there, or in a
//! TLS session of its own to peers that know no trunks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use renkei_site::{HostPort, sni};

use super::{
    Outbound, Route, failure,
    reachability::{Reachability, Task},
};
use crate::{
    bandwidth::Pace,
    context::Carrier,
    sessions::{alpn, kafka::server_name},
    tls::{DialFailure, GatewayPath, dial_peer},
    trunk::{DialError, LaneConnection, LaneDialer, OpenError},
    wan::WanStream,
};

/// The first backoff. Each further failure doubles it.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// A stream to the callee, verified.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: WanStream,
    /// The callee's side has said that it speaks Kafka.
    pub(crate) kafka: bool,
    pub(crate) carrier: Carrier,
}

/// A stream to the route's target as its workload. `node` asks for one broker of it.
pub(crate) async fn dial(
    route: &Arc<Route>,
    node: Option<i32>,
    outbound: &Arc<Outbound>,
) -> Result<Dialled, DialFailure> {
    if let Some(known) = route.reachability.refusal() {
        return Err(known);
    }
    let dialled = open(route, node, outbound).await;
    if let Err(failure) = &dialled {
        note(failure, route, outbound);
    }
    dialled
}

/// Finds out whether the route's target can be reached.
pub(super) async fn reach(route: &Arc<Route>, outbound: &Arc<Outbound>) -> Result<(), DialFailure> {
    let gateway = route.gateway.as_ref().ok_or(DialFailure::NoGateway)?;
    let (pair, through) = (route.pair(), gateway.to_string());
    let dialer = RouteDialer::new(route, outbound);
    let reached = outbound.connector.reach((&pair, &through), &dialer);
    let reached = reached.await;
    reached.map_err(|error| DialFailure::of_trunk(error, gateway))
}

async fn open(
    route: &Arc<Route>,
    node: Option<i32>,
    outbound: &Arc<Outbound>,
) -> Result<Dialled, DialFailure> {
    let gateway = route.gateway.as_ref().ok_or(DialFailure::NoGateway)?;
    let (pair, through) = (route.pair(), gateway.to_string());
    let dialer = RouteDialer::new(route, outbound);
    // Behind a gateway that hangs, callers do not wait for every one before them.
    let limits = &outbound.context.limits;
    let limit = limits.connect_timeout + limits.handshake_timeout;
    let target = node.map_or(Bytes::new(), |node| Bytes::from(node.to_string()));
    let pace = || outbound.context.bandwidths.pace();
    let connector = &outbound.connector;
    let opened = connector.open((&pair, &through), target, &dialer, limit);
    match opened.await {
        Ok(opened) => Ok(Dialled {
            stream: WanStream::trunk(opened.stream).at_pace(pace()),
            kafka: alpn::is_kafka(Some(&opened.alpn)),
            carrier: Carrier::trunk(opened.remote, opened.svid_not_after),
        }),
        // What was dialled to ask for trunks can carry this connection, unless a broker is meant.
        Err(OpenError::NoTrunks(Some(session))) if node.is_none() => Ok(plain(*session, pace())),
        Err(OpenError::NoTrunks(_)) => {
            let session = connect(route, node, &alpn::CALLER_SESSIONS, outbound);
            Ok(plain(session.await?, pace()))
        }
        Err(error) => Err(DialFailure::of_trunk(error, gateway)),
    }
}

fn plain(session: LaneConnection, pace: Pace) -> Dialled {
    Dialled {
        kafka: alpn::is_kafka(session.connection.alpn()),
        stream: WanStream::session(session.connection).at_pace(pace),
        carrier: Carrier::session(session.remote, session.credentials),
    }
}

/// A connection has failed. If that took long, the next ones fail at once, until a task has got an
/// answer.
fn note(failure: &DialFailure, route: &Arc<Route>, outbound: &Arc<Outbound>) {
    if !failure.is_slow() {
        return;
    }
    let sentence = failure.sentence(&route.caller, &route.target);
    let task = route.reachability.note_failure(failure.label(), sentence);
    if let Some(task) = task {
        tokio::spawn(follow(task, route.clone(), outbound.clone()));
    }
}

/// Dials until there is an answer, or no connection waits for it any more.
async fn follow(task: Arc<Task>, route: Arc<Route>, outbound: Arc<Outbound>) {
    // However this task ends, connections are not reset without it.
    let running = Running {
        reachability: route.reachability.clone(),
        task,
    };
    let drain = &outbound.context.drain;
    let mut backoff = FIRST_BACKOFF;
    while running.reachability.needs(&running.task) {
        let attempt = async {
            tokio::time::sleep(backoff).await;
            // A failure is noted where it is found.
            reach(&route, &outbound).await
        };
        let reached = tokio::select! {
            () = route.cut.cancelled() => return,
            () = drain.signaled() => return,
            reached = attempt => reached,
        };
        match reached {
            Err(failure) if failure.is_slow() => backoff = (backoff * 2).min(MAX_BACKOFF),
            // Connections find out the rest by themselves.
            Ok(()) | Err(_) => return,
        }
    }
}

struct Running {
    reachability: Arc<Reachability>,
    task: Arc<Task>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.reachability.end(&self.task);
    }
}

/// Dials the lanes of the trunk of a route.
struct RouteDialer {
    route: Arc<Route>,
    outbound: Arc<Outbound>,
}

impl RouteDialer {
    fn new(route: &Arc<Route>, outbound: &Arc<Outbound>) -> Arc<Self> {
        Arc::new(Self {
            route: route.clone(),
            outbound: outbound.clone(),
        })
    }
}

impl LaneDialer for RouteDialer {
    type Error = DialFailure;

    fn dial(&self) -> BoxFuture<'_, Result<LaneConnection, DialFailure>> {
        Box::pin(connect(&self.route, None, &alpn::CALLER, &self.outbound))
    }

    fn is_lane(&self, alpn: Option<&[u8]>) -> bool {
        alpn::is_trunk(alpn)
    }

    fn unreached(&self, error: &DialFailure) {
        note(error, &self.route, &self.outbound);
    }

    fn known_failure(&self) -> Option<DialFailure> {
        self.route.reachability.refusal()
    }

    fn failed(&self, error: &DialFailure) {
        let route = &self.route;
        let sentence = error.sentence(&route.caller, &route.target);
        let who = route.caller.short();
        failure::record(
            (error.label(), sentence),
            who,
            route,
            &self.outbound.context,
        );
    }
}

/// Dials the route's gateway as its workload, and demands that the other end proves to be its
/// target. A broker is asked for by its server name, which only sessions outside of trunks have.
async fn connect(
    route: &Route,
    node: Option<i32>,
    protocols: &[&[u8]],
    outbound: &Outbound,
) -> Result<LaneConnection, DialFailure> {
    let gateway: &HostPort = route.gateway.as_ref().ok_or(DialFailure::NoGateway)?;
    let name = sni(&route.target).ok_or(DialFailure::NoServerName)?;
    let by = (&*outbound.context, &*outbound.admission);
    let name = server_name(&name, node);
    let path = match &route.exit {
        Some(exit) => GatewayPath::Through(exit, &*outbound.exit),
        None => GatewayPath::Direct,
    };
    let dialled = dial_peer(&route.pair(), &name, (gateway, path), protocols, by).await?;
    route.reachability.note_answer();
    Ok(dialled)
}
