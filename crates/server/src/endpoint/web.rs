//! The profile https_web: a listener with a certificate of the web's PKI.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};
use renkei_runtime::{
    accept::accept,
    shares::{Network, NoPlace, Pool},
};
use renkei_site::BundleEndpoint;
use rustls::{ServerConfig, crypto::CryptoProvider};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    HANDSHAKE_TIME, http,
    pem::{PemError, PemIdentity},
};

/// Connections at once, of which one address has at most half.
pub(super) const MAX_CONNECTIONS: usize = 512;

/// Why the https_web endpoint cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be listened on.
    #[error("the bundle endpoint cannot listen on {address}: {source}")]
    Listen {
        /// From the site file.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate or the key cannot be used.
    #[error("the bundle endpoint's certificate: {0}")]
    Pem(#[from] PemError),
}

/// Why clients of the https_web endpoint were refused, and how many.
pub(crate) type RefusedClients = Family<RefusedLabel, Counter>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct RefusedLabel {
    pub(super) reason: &'static str,
}

/// A listening https_web endpoint.
#[derive(Debug)]
pub(crate) struct WebEndpoint {
    listener: TcpListener,
    identity: Mutex<PemIdentity>,
    document: watch::Receiver<Bytes>,
    /// By the addresses of the clients, so that none of them keeps the others out.
    places: Pool<Network>,
    pub(super) refused: RefusedClients,
}

impl WebEndpoint {
    /// Listens and reads the certificate, so that faults show at the start.
    pub(crate) async fn open(
        settings: &BundleEndpoint,
        provider: Arc<CryptoProvider>,
        document: watch::Receiver<Bytes>,
    ) -> Result<Self, EndpointError> {
        let identity = PemIdentity::read(&settings.certificate, &settings.key, provider)?;
        let address = settings.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| EndpointError::Listen { address, source })?;
        Ok(Self {
            listener,
            identity: Mutex::new(identity),
            document,
            places: Pool::new(MAX_CONNECTIONS),
            refused: RefusedClients::default(),
        })
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts until it is dropped.
    pub(crate) async fn run(&self) {
        loop {
            let (stream, client) = accept("the bundle endpoint", || self.listener.accept()).await;
            self.begin(stream, client);
        }
    }

    fn begin(&self, stream: TcpStream, client: SocketAddr) {
        let place = match self.places.try_take(vec![Network::of(client.ip())]) {
            Ok(place) => place,
            Err(full) => return self.refuse(client, &full),
        };
        let (config, document) = (lock(&self.identity).current(), self.document.clone());
        tokio::spawn(async move {
            serve(stream, config, document, client).await;
            drop(place);
        });
    }

    fn refuse(&self, client: SocketAddr, full: &NoPlace<Network>) {
        let reason = match full {
            NoPlace::Full => "connection_limit",
            NoPlace::Share(..) => "address_limit",
        };
        self.refused.get_or_create(&RefusedLabel { reason }).inc();
        tracing::warn!(%client, reason, "a connection to the bundle endpoint is refused");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    document: watch::Receiver<Bytes>,
    client: SocketAddr,
) {
    match timeout(HANDSHAKE_TIME, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => http::serve(stream, document, None).await,
        Ok(Err(error)) => tracing::debug!(%client, %error, "bundle endpoint: handshake failed"),
        Err(_) => tracing::debug!(%client, "bundle endpoint: handshake took too long"),
    }
}
