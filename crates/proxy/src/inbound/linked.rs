//! A site that only dials out links itself with this one, its hub.

use std::sync::Arc;

use renkei_spiffe::SpiffeId;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsStream, server::StartHandshake};

use super::handshake::{Fault, Ready, UNFINISHED, explain, give_up};
use crate::{
    credentials::Credentials,
    hub::{ALPN_RELAY, Judge},
    shared::{Desired, Shared},
};

/// A verified connection of a link.
pub(super) struct Linked {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) peer: SpiffeId,
    pub(super) own: SpiffeId,
    pub(super) credentials: Arc<Credentials>,
}

/// Whether the peer asks for a link.
pub(super) fn is_meant(start: &StartHandshake<TcpStream>) -> bool {
    let offered = start.client_hello().alpn();
    offered.is_some_and(|mut offered| offered.any(|name| name == ALPN_RELAY))
}

pub(super) async fn finish(
    start: StartHandshake<TcpStream>,
    desired: Arc<Desired>,
    shared: &Arc<Shared>,
) -> Result<Linked, Fault> {
    let own = desired.site.server_id.clone();
    let Ready {
        svid,
        identities,
        side,
    } = match Ready::new(&own, Judge(desired), &[ALPN_RELAY], shared) {
        Ok(ready) => ready,
        Err(fault) => return Err(give_up(start, fault).await),
    };
    let handshake = start.into_stream(side.config).into_fallible();
    let stream = timeout(shared.limits.handshake_time, handshake)
        .await
        .map_err(|_| Fault::of("handshake_timeout", UNFINISHED))?
        .map_err(|(error, stream)| explain(side.outcome.refusal(&error), &error, stream))?;
    let peer = side.outcome.peer();
    let peer = peer.ok_or_else(|| Fault::of("no_certificate", "the peer has no identity"))?;
    let credentials = shared
        .credentials(svid, stream.get_ref().1, identities)
        .map_err(|error| Fault::of(error.label(), error.to_string()))?;
    Ok(Linked {
        stream: stream.into(),
        peer,
        own,
        credentials,
    })
}
