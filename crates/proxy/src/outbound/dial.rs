//! Opening a stream from a local caller to a service of another site (or of this one).

use std::{net::SocketAddr, sync::Arc};

use renkei_site::Site;
use renkei_spiffe::client_side;
use rustls_pki_types::ServerName;
use time::OffsetDateTime;
use tokio_rustls::TlsConnector;

use super::{Route, failure::Failure};
use crate::{
    connect,
    kafka::{ALPN_KAFKA, ALPN_TCP, server_name},
    listener::keep_alive,
    shared::Shared,
    wan::WanStream,
};

/// What a caller can follow. A callee that chooses nothing carries bytes.
const PROTOCOLS: [&[u8]; 2] = [ALPN_KAFKA, ALPN_TCP];

/// A stream to the callee, verified.
#[derive(Debug)]
pub(crate) struct Dialled {
    pub(crate) stream: WanStream,
    pub(crate) gateway: SocketAddr,
    pub(crate) svid_not_after: OffsetDateTime,
}

/// Dials the route's gateway as its workload, and demands that the other end proves to be its
/// target. `node` asks for one broker of it.
pub(crate) async fn dial(
    route: &Route,
    node: Option<i32>,
    shared: &Shared,
) -> Result<Dialled, Failure> {
    // Closed only with the proxy itself.
    let _turn = shared.dial_room.acquire().await;
    let (caller, callee) = (&route.caller, &route.target);
    let gateway = route.gateway.as_ref().ok_or(Failure::NoGateway)?;
    let name = Site::sni(callee)
        .and_then(|sni| ServerName::try_from(server_name(&sni, node)).ok())
        .ok_or(Failure::NoServerName)?;
    let svid = shared.svid(caller).ok_or(Failure::NoIdentity)?;
    if svid.not_after() < OffsetDateTime::now_utc() {
        return Err(Failure::Expired(svid.not_after()));
    }
    let bundles = shared.identities().bundles.clone();
    let demand = Arc::new(callee.clone());
    let side = client_side(&shared.provider, &svid, bundles, demand, &PROTOCOLS)
        .map_err(|error| Failure::Tls(error.to_string()))?;
    let (stream, address) = connect::connect(gateway, shared.limits.connect_time)
        .await
        .map_err(|error| Failure::Unreachable(gateway.clone(), error))?;
    keep_alive(&stream);
    let handshake = TlsConnector::from(side.config).connect(name, stream);
    let stream = match tokio::time::timeout(shared.limits.handshake_time, handshake).await {
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
    Ok(Dialled {
        stream: stream.into(),
        gateway: address,
        svid_not_after: svid.not_after(),
    })
}
