mod hostile;
mod identity;
mod profiles;
mod running;
mod warning;

use std::{fs, future::Future, net::SocketAddr, path::PathBuf};

use renkei_spiffe::{Bundle, BundleSet};
use renkei_testkit::TestAuthority;
use rustls::ServerConfig;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::*;
use crate::{
    fixtures::{own, provider},
    store::SqliteStore,
};

fn tokyo() -> TrustDomain {
    TrustDomain::parse("tokyo.example").unwrap()
}

fn bundle_of(ca: &TestAuthority, sequence: u64) -> Bundle {
    Bundle {
        x509_authorities: vec![ca.certificate()],
        sequence: Some(sequence),
        refresh_hint: Some(Duration::from_secs(1)),
        ..Bundle::empty(tokyo())
    }
}

/// A bundle with a new CA each time.
fn tokyo_bundle(sequence: u64) -> Bundle {
    bundle_of(&TestAuthority::new("tokyo.example"), sequence)
}

/// A state folder with what peer loops need, and no loop running.
struct Lab {
    folder: tempfile::TempDir,
    context: Arc<Context>,
}

impl Lab {
    async fn new() -> Self {
        // No fetch of these tests is to end by its time on a busy machine.
        Self::with_limit(Duration::from_mins(10)).await
    }

    async fn with_limit(limit: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(
            SqliteStore::open(&folder.path().join("state"), &own())
                .await
                .unwrap(),
        );
        let context = Context {
            store,
            fetcher: Fetcher {
                provider: provider(),
                limit,
            },
            bundles: Arc::new(Bundles::new()),
            states: PeerStates::default(),
            metrics: ServerMetrics::default(),
            clock: Arc::new(OffsetDateTime::now_utc),
            tasks: Supervisor::default(),
            state: folder.path().join("state"),
        };
        Self {
            folder,
            context: Arc::new(context),
        }
    }

    /// From now on the loops act by this time. TLS does not.
    fn set_clock(&mut self, now: OffsetDateTime) {
        let context = Arc::get_mut(&mut self.context).expect("no loop yet");
        context.clock = Arc::new(move || now);
    }

    fn peer(&self, bundle: BundleSource) -> PeerLoop {
        let peer = PeerBundle {
            source: bundle,
            way: None,
        };
        PeerLoop::new(
            (tokyo(), peer),
            Duration::from_secs(1),
            self.context.clone(),
            None,
        )
    }

    async fn known(&self) -> Option<PeerRow> {
        self.context.store.peer_bundle(&tokyo()).await.unwrap()
    }

    fn published(&self) -> Option<Bundle> {
        self.context
            .bundles
            .snapshot()
            .get(&tokyo())
            .map(|bundle| Bundle::clone(bundle))
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn url_of(address: SocketAddr) -> url::Url {
    format!("https://{address}/").parse().unwrap()
}

fn web_source(address: SocketAddr, roots: Option<PathBuf>) -> BundleSource {
    BundleSource::HttpsWeb {
        url: url_of(address),
        roots,
    }
}

/// An HTTPS server that does as it is told after it has read a request.
struct WebServer {
    address: SocketAddr,
    certificate_pem: String,
    task: JoinHandle<()>,
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl WebServer {
    async fn start<F, R>(reply: F) -> Self
    where
        F: Fn(TlsStream<TcpStream>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        Self::serve(vec![cert.der().clone()], key.into(), cert.pem(), reply).await
    }

    async fn answering(reply: Vec<u8>) -> Self {
        Self::start(answer_with(reply)).await
    }

    /// With an SVID of `ca` for `path`, as an https_spiffe endpoint.
    async fn with_svid(ca: &TestAuthority, path: &str, reply: Vec<u8>) -> Self {
        let issued = ca.issue(path);
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(issued.key_pkcs8);
        Self::serve(
            issued.chain,
            key.into(),
            issued.certificate_pem,
            answer_with(reply),
        )
        .await
    }

    async fn serve<F, R>(
        chain: Vec<rustls_pki_types::CertificateDer<'static>>,
        key: rustls_pki_types::PrivateKeyDer<'static>,
        certificate_pem: String,
        reply: F,
    ) -> Self
    where
        F: Fn(TlsStream<TcpStream>) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let Ok(mut stream) = acceptor.accept(tcp).await else {
                    continue;
                };
                let mut request = [0; 4096];
                if stream.read(&mut request).await.is_ok() {
                    tokio::spawn(reply(stream));
                }
            }
        });
        Self {
            address,
            certificate_pem,
            task,
        }
    }

    fn url(&self) -> url::Url {
        url_of(self.address)
    }

    fn roots_file(&self, folder: &std::path::Path) -> PathBuf {
        let path = folder.join(format!("roots-{}.pem", self.address.port()));
        fs::write(&path, &self.certificate_pem).unwrap();
        path
    }

    fn source(&self, folder: &std::path::Path) -> BundleSource {
        web_source(self.address, Some(self.roots_file(folder)))
    }
}

/// Keeps the connection open and never answers.
async fn hang(_stream: TlsStream<TcpStream>) {
    std::future::pending().await
}

fn answer_with(
    reply: Vec<u8>,
) -> impl Fn(TlsStream<TcpStream>) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    let reply = Arc::new(reply);
    move |mut stream| {
        let reply = reply.clone();
        Box::pin(async move {
            let _ = stream.write_all(&reply).await;
            let _ = stream.shutdown().await;
        })
    }
}

fn redirect(status: u16, location: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
        .into_bytes()
}

fn ok_document(bundle: &Bundle) -> Vec<u8> {
    let body = bundle.to_document();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
