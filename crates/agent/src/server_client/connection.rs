//! One connection of gRPC over mutual TLS.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use hyper_util::rt::TokioIo;
use renkei_site::{Host, HostPort};
use renkei_spiffe::{BundleSet, SpiffeId, TrustDomain, X509Svid, client_side};
use rustls::{ClientConfig, crypto::CryptoProvider};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};

use super::{CONNECT_TIME, ConnectError};

/// How often a silent server is asked whether it is still there, and how long it may take to
/// answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIME: Duration = Duration::from_secs(20);
/// The protocol of the API in TLS (RFC 7301).
pub(super) const ALPN: &[u8] = b"h2";

/// The ID with which a site's server speaks on its API.
pub(super) fn server_id(trust_domain: &TrustDomain) -> Option<SpiffeId> {
    SpiffeId::parse(&format!("spiffe://{trust_domain}/spire/server")).ok()
}

/// A connection on which the node proves who it is, to the server of its trust domain.
pub(super) async fn as_node(
    server: &HostPort,
    provider: &Arc<CryptoProvider>,
    svid: &X509Svid,
    bundles: Arc<BundleSet>,
) -> Result<Channel, ConnectError> {
    let tls = |reason: String| ConnectError::Tls {
        server: server.clone(),
        reason,
    };
    let expected = server_id(svid.id().trust_domain())
        .ok_or_else(|| tls("the trust domain has no server".to_owned()))?;
    let side = client_side(provider, svid, bundles, Arc::new(expected), &[ALPN])
        .map_err(|error| tls(error.to_string()))?;
    let refusal = |error: &io::Error| {
        let refusal = side.outcome.refusal(error)?;
        let server = server.clone();
        Some(ConnectError::NotTheServer { server, refusal })
    };
    dial(server, side.config.clone(), refusal).await
}

/// Dials; `refusal` says why this side has ended the handshake, if it has.
pub(super) async fn dial(
    server: &HostPort,
    config: Arc<ClientConfig>,
    refusal: impl FnOnce(&io::Error) -> Option<ConnectError>,
) -> Result<Channel, ConnectError> {
    let connected = tokio::time::timeout(CONNECT_TIME, async {
        let unreachable = |error: io::Error| ConnectError::Unreachable {
            server: server.clone(),
            reason: error.to_string(),
        };
        let stream = TcpStream::connect(server.to_string())
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(unreachable)?;
        let handshake = TlsConnector::from(config).connect(name_of(server), stream);
        handshake.await.map_err(|error| {
            refusal(&error).unwrap_or_else(|| ConnectError::Tls {
                server: server.clone(),
                reason: error.to_string(),
            })
        })
    });
    let stream = connected.await.map_err(|_| timed_out(server))??;
    channel(server, stream).await
}

fn timed_out(server: &HostPort) -> ConnectError {
    ConnectError::Timeout {
        server: server.clone(),
    }
}

/// The name in the ClientHello. The certificate is judged by its SPIFFE ID, and not by this.
fn name_of(server: &HostPort) -> ServerName<'static> {
    match server.host() {
        Host::Ip(address) => ServerName::from(*address),
        Host::Name(name) => ServerName::try_from(name.clone())
            .unwrap_or_else(|_| ServerName::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED))),
    }
}

/// A channel over this one connection. When that is lost, so is the channel: a new one needs an
/// SVID and bundles of then.
async fn channel(server: &HostPort, stream: TlsStream<TcpStream>) -> Result<Channel, ConnectError> {
    let mut stream = Some(TokioIo::new(stream));
    let once = tower::service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::other("the connection to the server is lost")) }
    });
    let endpoint = Endpoint::from_static("http://server")
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIME)
        .keep_alive_while_idle(true);
    let connected = tokio::time::timeout(CONNECT_TIME, endpoint.connect_with_connector(once));
    connected
        .await
        .map_err(|_| timed_out(server))?
        .map_err(|error| ConnectError::Tls {
            server: server.clone(),
            reason: error.to_string(),
        })
}
