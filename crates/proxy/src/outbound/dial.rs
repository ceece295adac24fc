//! Opening a stream from a local caller to a service of another site (or of this one): within
//! the trunk that leads there, or in a TLS session of its own to peers that know no trunks.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use renkei_site::{HostPort, sni};
use renkei_spiffe::{Refusal, SpiffeId, client_side};
use rustls_pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Route, connection, failure::Failure};
use crate::{
    connect,
    flows::{Carrier, Direction, Pair},
    kafka::{ALPN_KAFKA, ALPN_TCP, server_name},
    listener::keep_alive,
    plain::OnClose,
    shared::Shared,
    trunk::{self, ALPN_TRUNK, ALPN_TRUNK_KAFKA, Dial, Dialed, Keeping, Raw, Slot},
    wan::WanStream,
};

/// What a caller can follow. A callee that chooses nothing carries bytes.
const PROTOCOLS: [&[u8]; 4] = [ALPN_TRUNK, ALPN_TRUNK_KAFKA, ALPN_KAFKA, ALPN_TCP];

/// The same without trunks.
const SESSIONS: [&[u8]; 2] = [ALPN_KAFKA, ALPN_TCP];

/// A peer that knows no trunks is asked again after this long: it may have been upgraded.
const PLAIN: Duration = Duration::from_secs(60);

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
    shared: &Arc<Shared>,
) -> Result<Dialled, Failure> {
    let gateway = route.gateway.as_ref().ok_or(Failure::NoGateway)?;
    let slot = shared
        .trunks
        .slot(&format!("{} {} {gateway}", route.caller, route.target));
    // Whoever holds it dials the first connection; behind a gateway that hangs, nobody waits for
    // every one before him.
    let patience = shared.limits.connect_time + shared.limits.handshake_time;
    let mut way = timeout(patience, slot.lock())
        .await
        .map_err(|_| Failure::SlowHandshake(gateway.clone()))?;
    if let Slot::Trunk(trunk) = &*way {
        if let Some(dialled) = within(trunk, node, shared) {
            return Ok(dialled);
        }
        *way = Slot::Unknown;
    }
    if matches!(*way, Slot::Plain { since } if since.elapsed() < PLAIN) {
        drop(way);
        return plain(connect(route, node, shared).await?);
    }
    let raw = connect(route, None, shared).await?;
    let alpn = raw.stream.get_ref().1.alpn_protocol();
    if !trunk::is_trunk(alpn) {
        *way = Slot::Plain {
            since: Instant::now(),
        };
        drop(way);
        return match node {
            None => plain(raw),
            Some(_) => plain(connect(route, node, shared).await?),
        };
    }
    let kafka = alpn == Some(ALPN_TRUNK_KAFKA);
    let pair = Pair {
        direction: Direction::Outbound,
        caller: route.caller.clone(),
        callee: route.target.clone(),
    };
    let keeping = Keeping {
        dial: redial(route, shared),
        failed: tell(route, shared),
        watch: None,
    };
    let trunk = trunk::establish(raw, kafka, pair, keeping, shared).await?;
    let dialled = within(&trunk, node, shared);
    *way = Slot::Trunk(trunk);
    dialled.ok_or_else(|| Failure::Tls("the trunk takes no streams".into()))
}

fn within(trunk: &Dialed, node: Option<i32>, shared: &Shared) -> Option<Dialled> {
    let (stream, svid_not_after) = trunk.open(node, shared)?;
    Some(Dialled {
        stream: WanStream::Trunk(stream),
        kafka: trunk.kafka,
        carrier: Carrier::trunk(trunk.gateway, svid_not_after),
    })
}

fn plain(raw: Raw) -> Result<Dialled, Failure> {
    Ok(Dialled {
        kafka: raw.stream.get_ref().1.alpn_protocol() == Some(ALPN_KAFKA),
        stream: WanStream::session(raw.stream),
        carrier: Carrier::session(raw.gateway, raw.credentials),
    })
}

/// Further lanes of the same trunk.
fn redial(route: &Arc<Route>, shared: &Arc<Shared>) -> Dial {
    let (route, shared) = (route.clone(), shared.clone());
    Arc::new(move || {
        let (route, shared) = (route.clone(), shared.clone());
        Box::pin(async move {
            let raw = connect(&route, None, &shared).await?;
            match trunk::is_trunk(raw.stream.get_ref().1.alpn_protocol()) {
                true => Ok(raw),
                false => Err(Failure::Tls(
                    "the other end knows no trunks any more".into(),
                )),
            }
        })
    })
}

/// Those whose connections wait for a way to the callee read why there is none.
fn tell(route: &Arc<Route>, shared: &Arc<Shared>) -> Arc<dyn Fn(&Failure) + Send + Sync> {
    let (route, shared) = (route.clone(), shared.clone());
    Arc::new(move |failure| connection::record(failure, route.caller.short(), &route, &shared))
}

/// Dials the route's gateway as its workload, and demands that the other end proves to be its
/// target.
async fn connect(route: &Route, node: Option<i32>, shared: &Shared) -> Result<Raw, Failure> {
    let gateway = route.gateway.as_ref().ok_or(Failure::NoGateway)?;
    let name = sni(&route.target).ok_or(Failure::NoServerName)?;
    // A broker of its own is asked for by name only outside of trunks.
    let protocols = if node.is_some() {
        &SESSIONS[..]
    } else {
        &PROTOCOLS[..]
    };
    let pair = (&route.caller, &route.target);
    dial_peer(pair, &server_name(&name, node), gateway, protocols, shared).await
}

/// Dials a gateway as `caller`, asks for `name`, and demands that the other end proves to be
/// `callee`.
pub(crate) async fn dial_peer(
    (caller, callee): (&SpiffeId, &SpiffeId),
    name: &str,
    gateway: &HostPort,
    protocols: &[&[u8]],
    shared: &Shared,
) -> Result<Raw, Failure> {
    // Closed only with the proxy itself.
    let _turn = shared.dial_room.acquire().await;
    let name = ServerName::try_from(name.to_owned()).map_err(|_| Failure::NoServerName)?;
    let svid = shared.svid(caller).map_err(Failure::NoIdentity)?;
    let identities = shared.identities();
    let bundles = identities.bundles.clone();
    let demand = Arc::new(callee.clone());
    let side = client_side(&shared.provider, &svid, bundles, demand, protocols)
        .map_err(|error| Failure::Tls(error.to_string()))?;
    let (stream, address) = connect::connect(gateway, shared.limits.connect_time, OnClose::Finish)
        .await
        .map_err(|error| Failure::Unreachable(gateway.clone(), error))?;
    keep_alive(&stream, address);
    let handshake = TlsConnector::from(side.config).connect(name, stream);
    let stream = match timeout(shared.limits.handshake_time, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(Failure::of_handshake(
                side.outcome.refusal(&error),
                &error,
                callee,
            ));
        }
        Err(_) => return Err(Failure::SlowHandshake(gateway.clone())),
    };
    let credentials = shared
        .credentials(svid, stream.get_ref().1, identities)
        .map_err(|error| Failure::Peer(Refusal::Peer(error)))?;
    Ok(Raw {
        stream: stream.into(),
        gateway: address,
        credentials,
    })
}
