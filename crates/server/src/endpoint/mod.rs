//! The trust domain's bundle endpoint in both profiles of SPIFFE_Federation section 5:
//! `https_spiffe`, on connections that the gateway hands over, and `https_web`, on a listener of
//! its own.

mod follow;
mod http;
pub(crate) mod pem;
mod web;

use std::{
    io::Cursor,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use renkei_runtime::clock;
use renkei_spiffe::{Identities, NoSvid, SpiffeId, X509Svid, alert_in_clear};
use rustls::{
    AlertDescription, ServerConfig,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

pub(crate) use self::http::{CHECKPOINT_PATH, FederationDocuments, RECORD_PATH};
pub(crate) use follow::WebEndpoints;
pub use pem::PemError;
pub use web::EndpointError;
pub(crate) use web::RefusedClients;
use web::WebEndpoint;

const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Why a connection to the bundle endpoint was not served.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The agent holds no certificate for the endpoint, or it has ended.
    #[error("no certificate for the bundle endpoint: {0}")]
    NoIdentity(#[from] NoSvid),
    /// The client was too slow.
    #[error("the TLS handshake took too long")]
    Timeout,
    /// The client broke the TLS handshake off, or does not trust the SVID.
    #[error("the TLS handshake failed: {0}")]
    Handshake(std::io::Error),
    /// The certificate and key do not fit this TLS library.
    #[error("the endpoint's certificate cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// The endpoint of the profile https_spiffe. Clients present no certificate
/// (SPIFFE_Federation 5.2.2). How many there are at once is bounded by who hands them over.
#[derive(Debug, Clone)]
pub struct SpiffeEndpoint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: SpiffeId,
    provider: Arc<CryptoProvider>,
    document: watch::Receiver<Bytes>,
    federation: FederationDocuments,
    /// The configuration made from the SVID that is its key.
    current: Mutex<Option<(Arc<X509Svid>, Arc<ServerConfig>)>>,
}

impl SpiffeEndpoint {
    pub(crate) fn new(
        id: SpiffeId,
        provider: Arc<CryptoProvider>,
        document: watch::Receiver<Bytes>,
        federation: FederationDocuments,
    ) -> Self {
        Self(Arc::new(Inner {
            id,
            provider,
            document,
            federation,
            current: Mutex::default(),
        }))
    }

    /// Serves a connection to its end, with the SVID of the endpoint from `identities`. `received`
    /// is what was read of it already, from its first byte on.
    pub async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
        &self,
        mut stream: S,
        received: Bytes,
        identities: &watch::Receiver<Arc<Identities>>,
    ) -> Result<(), HandshakeError> {
        let config = match self.0.prepare(identities) {
            Ok(config) => config,
            Err(error) => {
                let alert = alert_in_clear(AlertDescription::InternalError);
                // An error means that the client has gone.
                let _ = stream.write_all(&alert).await;
                return Err(error);
            }
        };
        let (read, write) = tokio::io::split(stream);
        let stream = tokio::io::join(Cursor::new(received).chain(read), write);
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = timeout(HANDSHAKE_TIME, handshake)
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(HandshakeError::Handshake)?;
        let federation = Some(self.0.federation.clone());
        http::serve(stream, self.0.document.clone(), federation).await;
        Ok(())
    }
}

impl Inner {
    /// What a handshake needs here.
    fn prepare(
        &self,
        identities: &watch::Receiver<Arc<Identities>>,
    ) -> Result<Arc<ServerConfig>, HandshakeError> {
        let now = clock::now();
        let svid = identities.borrow().valid_svid(&self.id, now).cloned()?;
        Ok(self.config(&svid)?)
    }

    fn config(&self, svid: &Arc<X509Svid>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made_from, config)) = current.as_ref()
            && Arc::ptr_eq(made_from, svid)
        {
            return Ok(config.clone());
        }
        let config = server_config(
            &self.provider,
            svid.chain().to_vec(),
            svid.key().to_rustls(),
        )?;
        *current = Some((svid.clone(), config.clone()));
        Ok(config)
    }
}

/// TLS 1.2 too, for HTTP clients that know nothing newer: the document is public, and it is the
/// client that needs to know the server.
fn server_config(
    provider: &Arc<CryptoProvider>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
