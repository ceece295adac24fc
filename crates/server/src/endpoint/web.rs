//! The profile https_web: a listener with a certificate of the web's PKI.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use renkei_runtime::{accept::accept, telemetry::LineBudget};
use renkei_site::BundleEndpoint;
use rustls::{ServerConfig, crypto::CryptoProvider};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    HANDSHAKE_TIME, MAX_CONNECTIONS,
    http::{self, Places},
    pem::{PemError, PemIdentity},
};

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

/// A listening https_web endpoint.
#[derive(Debug)]
pub(crate) struct WebEndpoint {
    listener: TcpListener,
    identity: Mutex<PemIdentity>,
    document: watch::Receiver<Bytes>,
    places: Places,
    /// Of those who find no place.
    lines: Mutex<LineBudget>,
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
            places: Places::new(MAX_CONNECTIONS),
            lines: Mutex::default(),
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
        let Some(place) = self.places.take() else {
            let left_out = lock(&self.lines).take(Instant::now());
            if let Some(left_out) = left_out {
                tracing::warn!(%client, left_out, "the bundle endpoint has reached its connection limit");
            }
            return;
        };
        let (config, document) = (lock(&self.identity).current(), self.document.clone());
        tokio::spawn(async move {
            serve(stream, config, document, client).await;
            drop(place);
        });
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
