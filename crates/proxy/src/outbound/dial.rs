//! Opening a stream from a local caller to a service: within the trunk that leads there, or in a
//! TLS session of its own to peers that know no trunks.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use renkei_site::{HostPort, sni};

use super::{Outbound, Route, failure};
use crate::{
    context::Carrier,
    sessions::{alpn, kafka::server_name},
    tls::{DialFailure, dial_peer},
    trunk::{DialError, LaneConnection, LaneDialer, OpenError},
    wan::WanStream,
};

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
    let gateway = route.gateway.as_ref().ok_or(DialFailure::NoGateway)?;
    let (pair, through) = (route.pair(), gateway.to_string());
    let dialer = Arc::new(RouteDialer {
        route: route.clone(),
        outbound: outbound.clone(),
    });
    // Behind a gateway that hangs, callers do not wait for every one before them.
    let limits = &outbound.context.limits;
    let limit = limits.connect_timeout + limits.handshake_timeout;
    let target = node.map_or(Bytes::new(), |node| Bytes::from(node.to_string()));
    let connector = &outbound.connector;
    let opened = connector.open((&pair, &through), target, &dialer, limit);
    match opened.await {
        Ok(opened) => Ok(Dialled {
            stream: WanStream::Trunk(opened.stream),
            kafka: alpn::is_kafka(Some(&opened.alpn)),
            carrier: Carrier::trunk(opened.remote, opened.svid_not_after),
        }),
        // What was dialled to ask for trunks can carry this connection, unless a broker is meant.
        Err(OpenError::NoTrunks(Some(session))) if node.is_none() => Ok(plain(*session)),
        Err(OpenError::NoTrunks(_)) => {
            let session = connect(route, node, &alpn::CALLER_SESSIONS, outbound);
            Ok(plain(session.await?))
        }
        Err(error) => Err(DialFailure::of_trunk(error, gateway)),
    }
}

fn plain(session: LaneConnection) -> Dialled {
    Dialled {
        kafka: alpn::is_kafka(session.connection.alpn()),
        stream: WanStream::session(session.connection),
        carrier: Carrier::session(session.remote, session.credentials),
    }
}

/// Dials the lanes of the trunk of a route.
struct RouteDialer {
    route: Arc<Route>,
    outbound: Arc<Outbound>,
}

impl LaneDialer for RouteDialer {
    type Error = DialFailure;

    fn dial(&self) -> BoxFuture<'_, Result<LaneConnection, DialFailure>> {
        Box::pin(connect(&self.route, None, &alpn::CALLER, &self.outbound))
    }

    fn is_lane(&self, alpn: Option<&[u8]>) -> bool {
        alpn::is_trunk(alpn)
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
    dial_peer(&route.pair(), &name, gateway, protocols, by).await
}
