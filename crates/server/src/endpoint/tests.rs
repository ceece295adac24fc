use std::{fs, net::SocketAddr};

use bytes::BytesMut;
use renkei_site::BundleEndpoint;
use renkei_spiffe::PrivateKey;
use renkei_testkit::{Issued, TestAuthority};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::*;
use crate::fixtures::{id, provider};

/// No federation.
fn nothing() -> watch::Receiver<Bytes> {
    watch::Sender::new(Bytes::new()).subscribe()
}

fn federation() -> FederationDocuments {
    FederationDocuments {
        checkpoint: nothing(),
        record: nothing(),
    }
}

fn document() -> (watch::Sender<Bytes>, watch::Receiver<Bytes>) {
    watch::channel(Bytes::from_static(b"{\"keys\":[]}"))
}

/// A certificate of the web's kind for 127.0.0.1, with its key, in files.
fn web_files(folder: &std::path::Path) -> (BundleEndpoint, RootCertStore) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("web.pem"), folder.join("web.key"));
    fs::write(&certificate, cert.pem()).unwrap();
    fs::write(&key, signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    (
        BundleEndpoint {
            listen: "127.0.0.1:0".parse().unwrap(),
            certificate,
            key,
        },
        roots,
    )
}

async fn connect(
    address: SocketAddr,
    roots: RootCertStore,
) -> std::io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

/// One request as raw HTTP/1.1; the whole answer as text.
async fn ask<S>(stream: &mut S, request: &str) -> String
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_web_endpoint_serves_the_newest_document_on_any_path() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, roots) = web_files(folder.path());
    let (sender, receiver) = document();
    let endpoint = WebEndpoint::open(&settings, provider(), receiver)
        .await
        .unwrap();
    let address = endpoint.local_address().unwrap();
    let serving = tokio::spawn(async move { endpoint.run().await });
    let request =
        async |line: &str| ask(&mut connect(address, roots.clone()).await.unwrap(), line).await;

    let answer = request("GET /any/path?x=1").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(
        answer.contains("content-type: application/json\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("\r\n\r\n{\"keys\":[]}"), "{answer}");

    sender.send_replace(Bytes::from_static(b"{\"keys\":[],\"spiffe_sequence\":2}"));
    assert!(request("GET /").await.ends_with("\"spiffe_sequence\":2}"));

    let head = request("HEAD /").await;
    assert!(
        head.contains("content-length: 31\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    let post = request("POST /").await;
    assert!(
        post.starts_with("HTTP/1.1 405 ") && post.contains("allow: GET, HEAD"),
        "{post}"
    );
    serving.abort();
}

#[tokio::test]
async fn curl_reads_the_document_over_both_versions_of_http() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, _) = web_files(folder.path());
    let (_sender, receiver) = document();
    let endpoint = WebEndpoint::open(&settings, provider(), receiver)
        .await
        .unwrap();
    let url = format!("https://{}/bundle", endpoint.local_address().unwrap());
    let serving = tokio::spawn(async move { endpoint.run().await });
    for version in ["--http1.1", "--http2"] {
        let output = tokio::process::Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "60",
                version,
                "--cacert",
            ])
            .arg(&settings.certificate)
            .args(["--write-out", " HTTP/%{http_version} %{http_code}", &url])
            .output()
            .await
            .expect("curl is needed for this test; scripts/test installs it");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        let version = version.trim_start_matches("--http");
        assert_eq!(
            printed,
            format!("{{\"keys\":[]}} HTTP/{version} 200"),
            "{errors}"
        );
    }
    serving.abort();
}

#[tokio::test]
async fn a_renewed_certificate_file_is_taken_up_and_a_bad_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, first) = web_files(folder.path());
    let (_sender, receiver) = document();
    let endpoint = WebEndpoint::open(&settings, provider(), receiver)
        .await
        .unwrap();
    let address = endpoint.local_address().unwrap();
    let serving = tokio::spawn(async move { endpoint.run().await });
    connect(address, first.clone()).await.unwrap();

    fs::write(&settings.certificate, "not PEM").unwrap();
    connect(address, first.clone()).await.unwrap();

    let (_, second) = web_files(folder.path());
    connect(address, second).await.unwrap();
    assert!(connect(address, first).await.is_err());
    serving.abort();
}

#[tokio::test]
async fn a_port_in_use_or_a_missing_file_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut settings, _) = web_files(folder.path());
    settings.listen = taken.local_addr().unwrap();
    let (_sender, receiver) = document();
    let error = WebEndpoint::open(&settings, provider(), receiver.clone())
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains(&settings.listen.to_string()),
        "{error}"
    );

    settings.key = folder.path().join("absent.key");
    let error = WebEndpoint::open(&settings, provider(), receiver)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("absent.key"), "{error}");
}

#[tokio::test]
async fn a_client_that_sends_nothing_does_not_keep_others_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, roots) = web_files(folder.path());
    let (_sender, receiver) = document();
    let endpoint = WebEndpoint::open(&settings, provider(), receiver)
        .await
        .unwrap();
    let address = endpoint.local_address().unwrap();
    let serving = tokio::spawn(async move { endpoint.run().await });
    let _silent: Vec<TcpStream> = {
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        silent
    };
    let answer = ask(&mut connect(address, roots).await.unwrap(), "GET /").await;
    assert!(answer.starts_with("HTTP/1.1 200 "));
    serving.abort();
}

#[tokio::test]
async fn one_address_does_not_keep_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let (settings, roots) = web_files(folder.path());
    let (_sender, receiver) = document();
    let endpoint = WebEndpoint::open(&settings, provider(), receiver)
        .await
        .unwrap();
    let (address, refused) = (endpoint.local_address().unwrap(), endpoint.refused.clone());
    let serving = tokio::spawn(async move { endpoint.run().await });
    let from = |host: u8| async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, host], 0).into()).unwrap();
        socket.connect(address).await
    };
    let mut silent = Vec::new();
    for _ in 0..web::MAX_CONNECTIONS {
        // One that is refused may be reset before it is connected.
        silent.extend(from(77).await.ok());
    }
    let answer = ask(&mut connect(address, roots).await.unwrap(), "GET /").await;
    assert!(answer.starts_with("HTTP/1.1 200 "));
    let label = web::RefusedLabel {
        reason: "address_limit",
    };
    let refused = refused.get_or_create(&label).get();
    assert_eq!(refused, web::MAX_CONNECTIONS as u64 / 2);
    serving.abort();
}

fn svid_of(issued: Issued) -> Arc<X509Svid> {
    Arc::new(X509Svid::new(issued.chain, PrivateKey::from_pkcs8(issued.key_pkcs8)).unwrap())
}

/// The https_spiffe endpoint behind a listener, as a gateway would have it.
struct SpiffeServer {
    address: SocketAddr,
    identities: watch::Sender<Arc<Identities>>,
    /// How each connection ended.
    outcomes: tokio::sync::mpsc::Receiver<Option<String>>,
    task: tokio::task::JoinHandle<()>,
}

impl SpiffeServer {
    async fn start(endpoint: SpiffeEndpoint) -> Self {
        let identities = watch::Sender::new(Arc::new(Identities::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (results, outcomes) = tokio::sync::mpsc::channel(8);
        let follower = identities.subscribe();
        let task = tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                // As the gateway does, which reads the server name.
                let mut received = BytesMut::with_capacity(256);
                tcp.read_buf(&mut received).await.unwrap();
                let received = received.freeze();
                let result = endpoint.serve(tcp, received, &follower).await;
                results
                    .send(result.err().map(|error| error.to_string()))
                    .await
                    .unwrap();
            }
        });
        Self {
            address,
            identities,
            outcomes,
            task,
        }
    }

    fn present(&self, ca: &TestAuthority) {
        let mut all = Identities::default();
        all.svids
            .insert(server_id(), svid_of(ca.issue("/renkei/server")));
        self.identities.send_replace(Arc::new(all));
    }

    /// What a reader gets that knows only `ca`.
    async fn fetch(&self, ca: &TestAuthority) -> Option<String> {
        let mut bundle = renkei_spiffe::Bundle::empty(server_id().trust_domain().clone());
        bundle.x509_authorities.push(ca.certificate());
        let trusted = Arc::new([Arc::new(bundle)].into_iter().collect());
        let expected = Arc::new(server_id());
        let side =
            renkei_spiffe::anonymous_client_side(&provider(), trusted, expected, &[b"http/1.1"])
                .unwrap();
        let tcp = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::from(self.address.ip());
        let mut stream = TlsConnector::from(side.config)
            .connect(name, tcp)
            .await
            .ok()?;
        Some(ask(&mut stream, "GET /").await)
    }
}

fn server_id() -> SpiffeId {
    id("osaka.example/renkei/server")
}

#[tokio::test]
async fn the_spiffe_endpoint_serves_with_the_svid_of_the_moment() {
    let ca = TestAuthority::new("osaka.example");
    let (_sender, receiver) = document();
    let mut server = {
        let endpoint = SpiffeEndpoint::new(server_id(), provider(), receiver, federation());
        SpiffeServer::start(endpoint).await
    };
    let url = url::Url::parse(&format!("https://{}/", server.address)).unwrap();
    let (_, roots) = web_files(tempfile::tempdir().unwrap().path());
    let reader = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let error = crate::fetch::get(
        &url,
        None,
        &mut || Ok(Arc::new(reader.clone())),
        HANDSHAKE_TIME,
    )
    .await
    .unwrap_err()
    .to_string();
    assert!(
        error.ends_with("the peer has no valid identity at this time, and its log says why"),
        "{error}"
    );
    let told = server.outcomes.recv().await.unwrap().unwrap();
    assert!(told.contains("osaka.example/renkei/server"), "{told}");

    server.present(&ca);
    assert!(server.fetch(&ca).await.unwrap().ends_with("{\"keys\":[]}"));
    assert_eq!(server.outcomes.recv().await.unwrap(), None);

    let renewed = TestAuthority::new("osaka.example");
    server.present(&renewed);
    assert!(
        server
            .fetch(&renewed)
            .await
            .unwrap()
            .ends_with("{\"keys\":[]}")
    );
    assert_eq!(
        server.fetch(&ca).await,
        None,
        "the former SVID is not presented any longer"
    );
    server.task.abort();
}
