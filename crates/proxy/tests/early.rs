//! Answers that come before the request is through, and ends of one direction while the other
//! lasts: what direct TCP delivers, the mesh delivers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{io, net::SocketAddr, sync::Arc};

use lab::{Lab, Node, backend, bundle, eventually, id, provider, svid, three::Three, within};
use renkei_proxy::ProxyLimits;
use renkei_spiffe::{BundleSet, client_side, server_side};
use renkei_testkit::TestAuthority;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};

const MIB: usize = 1024 * 1024;
/// Fits into the receive buffer of any socket. What the kernel of an application that has left still
/// has to send is lost at the first bytes that come for it, on a direct connection too.
const FITS: usize = 32 * 1024;
const ANSWER: &[u8] = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig";

/// Reads the beginning of a request, answers, and closes: the rest of the request meets a reset.
async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let _ = stream.read_exact(&mut [0; 1000]).await;
    let _ = stream.write_all(ANSWER).await;
    let _ = stream.flush().await;
}

async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { refuse(&mut stream).await });
        }
    });
    address
}

/// Sends a request as far as it is taken, and only then reads, as simple clients do.
async fn request<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> Vec<u8> {
    let _ = within(stream.write_all(bytes)).await;
    read(stream).await.0
}

/// All that comes, and how it ends.
async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> (Vec<u8>, io::Result<()>) {
    let (mut all, mut chunk) = (Vec::new(), vec![0; 65_536]);
    loop {
        match within(stream.read(&mut chunk)).await {
            Ok(0) => return (all, Ok(())),
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(error) => return (all, Err(error)),
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Twenty requests, since it is a race.
async fn assert_answered(what: &str, connect: impl AsyncFn() -> TcpStream) {
    let large = vec![b'y'; 8 * MIB];
    let mut lost = 0;
    for _ in 0..20 {
        let answer = request(&mut connect().await, &large).await;
        lost += usize::from(answer != ANSWER);
    }
    assert_eq!(lost, 0, "answers lost of 20 {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_before_the_request_is_through_arrives() {
    let lab = Lab::new(&[refusing().await]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    assert_answered("through a trunk", || lab.connect()).await;
    eventually("all closed", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_arrives_through_a_hub_too() {
    let three = Three::new(refusing().await).await;
    let _sites = three.sites(ProxyLimits::default()).await;
    assert_answered("through a hub", || three.connect()).await;
    let large = vec![b'y'; 8 * MIB];
    for _ in 0..5 {
        let trusts = &three.osaka_ca;
        let caller = (&three.kyushu_ca, "/collector");
        let mut tls = session(caller, trusts, "store.osaka.example", three.gateway).await;
        assert_eq!(text(&request(&mut tls, &large).await), text(ANSWER));
    }
}

/// A session of a caller that knows no trunks.
async fn session(
    (own, path): (&TestAuthority, &str),
    trusts: &TestAuthority,
    name: &'static str,
    gateway: SocketAddr,
) -> TlsStream<TcpStream> {
    let bundles: BundleSet = [bundle(trusts)].into_iter().collect();
    let (service, domain) = name.split_once('.').unwrap();
    let callee = Arc::new(id(&format!("{domain}/{service}")));
    let caller = svid(own.issue(path));
    let side = client_side(&provider(), &caller, Arc::new(bundles), callee, &[]).unwrap();
    let tcp = TcpStream::connect(gateway).await.unwrap();
    let connector = TlsConnector::from(side.config);
    connector
        .connect(name.try_into().unwrap(), tcp)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_know_no_trunks_get_it_too() {
    let lab = Lab::new(&[refusing().await]);
    let _hokkaido = lab.hokkaido().await;
    let large = vec![b'y'; 8 * MIB];
    for _ in 0..20 {
        let caller = (&lab.osaka_ca, "/collector");
        let name = "broker.hokkaido.example";
        let mut tls = session(caller, &lab.hokkaido_ca, name, lab.gateway).await;
        assert_eq!(text(&request(&mut tls, &large).await), text(ANSWER));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callees_that_know_no_trunks_are_heard_too() {
    let lab = Lab::new(&[lab::echo().await]);
    let gateway = TcpListener::bind(lab.gateway).await.unwrap();
    let _osaka = lab.osaka().await;
    let broker = svid(lab.hokkaido_ca.issue("/broker"));
    let caller = Arc::new(id("osaka.example/collector"));
    let trusts: BundleSet = [bundle(&lab.osaka_ca)].into_iter().collect();
    let side = server_side(&provider(), &broker, Arc::new(trusts), caller, &[]).unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = gateway.accept().await {
            let acceptor = TlsAcceptor::from(side.config.clone());
            tokio::spawn(async move {
                let mut tls = acceptor.accept(tcp).await.unwrap();
                refuse(&mut tls).await;
            });
        }
    });
    assert_answered("of a peer without trunks", || lab.connect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kafka_client_reads_what_a_broker_said_before_it_closed() {
    // A Produce request of version 3 with acks=1, of which only the head matters here.
    let mut produce = vec![0, 0, 0, 3, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff, 0, 1];
    produce.resize(8 * MIB, 0);
    produce.splice(..0, (8 * MIB as u32).to_be_bytes());
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let kafka = lab
        .hokkaido_text("osaka.example/collector")
        .replace("broker: {", "broker: {protocol: kafka, ");
    let _hokkaido = Node::start(&kafka, lab.hokkaido_identities()).await;
    let _osaka = lab.osaka().await;
    for _ in 0..10 {
        let mut app = lab.connect().await;
        let asked = tokio::spawn({
            let produce = produce.clone();
            async move { request(&mut app, &produce).await }
        });
        let mut broker = within(connections.recv()).await.unwrap();
        broker.read_exact(&mut [0; 1000]).await.unwrap();
        let answer = [0, 0, 0, 5, 0, 0, 0, 9, 42];
        broker.write_all(&answer).await.unwrap();
        drop(broker);
        assert_eq!(asked.await.unwrap(), answer);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_answer_before_a_clean_end_arrives_whole_though_it_is_read_late() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    let asked = tokio::spawn(async move {
        let _ = within(app.write_all(&vec![b'y'; 16 * MIB])).await;
        read(&mut app).await
    });
    let mut service = within(connections.recv()).await.unwrap();
    service.read_exact(&mut [0; 1000]).await.unwrap();
    service.write_all(&vec![7; 2 * MIB]).await.unwrap();
    service.shutdown().await.unwrap();
    // A reset throws away what the backend's own kernel has not sent yet.
    eventually("the answer at the gateway", || {
        let flows = hokkaido.proxy.flows().list();
        flows
            .iter()
            .find(|flow| flow.traffic.to_wan() == 2 * MIB as u64)
            .map(|_| ())
    })
    .await;
    drop(service);
    let (answer, _) = asked.await.unwrap();
    assert_eq!(answer.len(), 2 * MIB);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_cut_short_by_a_reset_has_no_clean_end() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = (lab.hokkaido().await, lab.osaka().await);
    for _ in 0..20 {
        let mut app = lab.connect().await;
        app.write_all(&[b'y'; 2000]).await.unwrap();
        let mut service = within(connections.recv()).await.unwrap();
        service.read_exact(&mut [0; 1000]).await.unwrap();
        service.write_all(b"half an answ").await.unwrap();
        drop(service);
        let (answer, end) = read(&mut app).await;
        let end = end.map_err(|error| error.kind());
        assert_eq!(text(&answer), "half an answ");
        assert_eq!(end, Err(io::ErrorKind::ConnectionReset));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_leaves_is_heard_to_its_end_and_its_backend_learns_of_it() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    app.write_all(&vec![b'y'; FITS]).await.unwrap();
    drop(app);
    // The backend speaks first, into the void, and reads then.
    let spoken = async { while service.write_all(&[7; 65_536]).await.is_ok() {} };
    let _ = tokio::time::timeout(std::time::Duration::from_millis(300), spoken).await;
    let (request, _) = read(&mut service).await;
    assert_eq!(request.len(), FITS);
    eventually("all closed", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
}
