//! HTTP through the proxies of two sites: what each request may do, and that what may be done is
//! done unharmed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod backends;
mod drain;
mod early;
mod half_close;
mod heads;
#[path = "../lab/mod.rs"]
mod lab;
mod raw;
mod rules;
mod sharing;
mod unix;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    client::conn::http1::{SendRequest, handshake},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use lab::{
    Lab, Node, assert_reset, backend, desired, eventually, id,
    time::{pass, pass_until, settle},
    within,
};
use renkei_policy::{RegoModule, ServicePolicy};
use renkei_proxy::ProxyLimits;
use renkei_spiffe::client_side;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;

const RULES: &str = "methods: {osaka.example/collector: [GET /v1/*, PUT /v1/echo, HEAD, OPTIONS]}";
const ALLOW: &str = "osaka.example/collector";

/// The text of a site whose service speaks HTTP, with these rules.
fn text(lab: &Lab, rules: &str) -> String {
    let with = format!("broker: {{protocol: http, {rules}, ");
    lab.hokkaido_text(ALLOW).replace("broker: {", &with)
}

async fn sites(lab: &Lab, rules: &str) -> (Node, Node) {
    let hokkaido = Node::start(&text(lab, rules), lab.hokkaido_identities()).await;
    (hokkaido, lab.osaka().await)
}

/// How long the head of a request may take at an impatient site: more than any of the waiting here.
const LIMIT: Duration = lab::DEADLINE.saturating_mul(4);

async fn impatient(lab: &Lab) -> Node {
    let limits = ProxyLimits {
        handshake_timeout: LIMIT,
        ..ProxyLimits::default()
    };
    Node::start_with(&text(lab, RULES), lab.hokkaido_identities(), limits, None).await
}

/// A backend that sends bodies of `/v1/echo` back, with `?whole` once it has all of one, and otherwise tells what it was asked.
async fn records() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counter = counter.clone();
            let answer = service_fn(move |request| {
                counter.fetch_add(1, Ordering::SeqCst);
                async { Ok::<_, Infallible>(respond(request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    (address, asked)
}

async fn respond(request: Request<Incoming>) -> Response<BoxBody<Bytes, hyper::Error>> {
    if request.uri().query() == Some("whole") {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body = Full::new(body).map_err(|never| match never {});
        return Response::new(body.boxed());
    }
    if request.uri().path() == "/v1/echo" {
        let trailer = request.headers().get("trailer").cloned();
        let mut response = Response::new(request.into_body().boxed());
        if let Some(trailer) = trailer {
            response.headers_mut().insert("trailer", trailer);
        }
        return response;
    }
    let mut told = format!("{} {}\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        told.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    let body = Full::new(Bytes::from(told)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    let headers = response.headers_mut();
    headers.insert("connection", "keep-alive, x-internal".parse().unwrap());
    headers.insert("x-internal", "1".parse().unwrap());
    headers.insert("x-kept", "1".parse().unwrap());
    response
}

type Body = BoxBody<Bytes, Infallible>;

async fn client(lab: &Lab) -> SendRequest<Body> {
    let stream = TokioIo::new(lab.connect().await);
    let (sender, connection) = handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(method: &str, path: &str, body: &'static str) -> Request<Body> {
    let builder = Request::builder().method(method).uri(path);
    let request = builder.header("host", "records");
    request.body(Full::from(body).boxed()).unwrap()
}

/// Status, headers as text, and body.
async fn ask(client: &mut SendRequest<Body>, request: Request<Body>) -> (u16, String, String) {
    within(client.ready()).await.unwrap();
    let response = within(client.send_request(request)).await.unwrap();
    let status = response.status().as_u16();
    let headers = format!("{:?}", response.headers());
    let body = within(response.into_body().collect()).await.unwrap();
    (
        status,
        headers,
        String::from_utf8(body.to_bytes().to_vec()).unwrap(),
    )
}

/// The head of the next response, as it came.
async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        within(stream.read_exact(&mut byte))
            .await
            .expect("a response");
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection of each kind: in a trunk between the sites, and a TLS session of its own.
async fn both(lab: &Lab) -> [(&'static str, Box<dyn Stream>); 2] {
    let trusts = [lab::bundle(&lab.hokkaido_ca)].into_iter().collect();
    let callee = Arc::new(id("hokkaido.example/broker"));
    let own = lab::svid(lab.osaka_ca.issue("/collector"));
    let side = client_side(&lab::provider(), &own, Arc::new(trusts), callee, &[]).unwrap();
    let tcp = TcpStream::connect(lab.gateway).await.unwrap();
    let name = "broker.hokkaido.example".try_into().unwrap();
    let plain = TlsConnector::from(side.config).connect(name, tcp);
    [
        ("trunk", Box::new(lab.connect().await)),
        ("plain", Box::new(within(plain).await.unwrap())),
    ]
}

/// The next response with its body, which has a length.
async fn response(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let head = head(stream).await;
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().unwrap()];
    within(stream.read_exact(&mut body)).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

async fn assert_reset_after(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    within(stream.read_exact(&mut got)).await.unwrap();
    assert_eq!(got, bytes);
    assert_reset(stream).await;
}

async fn assert_ended(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let _ = within(stream.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_request_is_decided_and_the_backend_learns_who_asks() {
    let (backend, asked) = records().await;
    let lab = Lab::new(&[backend]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    let mut client = client(&lab).await;
    let mut forged = request("GET", "/v1/records?from=1", "");
    for name in ["x-renkei-peer", "X-Renkei-Peer", "x_renkei_peer"] {
        let value = "spiffe://osaka.example/admin".parse().unwrap();
        let name = hyper::header::HeaderName::from_bytes(name.as_bytes()).unwrap();
        forged.headers_mut().append(name, value);
    }
    let (status, headers, told) = ask(&mut client, forged).await;
    assert_eq!(status, 200);
    assert!(told.starts_with("GET /v1/records?from=1\n"), "{told}");
    assert!(
        told.contains("x-renkei-peer: spiffe://osaka.example/collector\n"),
        "{told}"
    );
    assert!(!told.contains("admin"), "{told}");
    assert!(
        headers.contains("x-kept") && !headers.contains("x-internal"),
        "{headers}"
    );
    let (status, _, told) = ask(&mut client, request("POST", "/v1/records", "data")).await;
    assert_eq!(status, 403);
    assert_eq!(
        told,
        "osaka.example/collector may not do POST /v1/records at hokkaido.example/broker: no rule \
         in its methods allows that\n"
    );
    let (status, ..) = ask(&mut client, request("GET", "/v2", "")).await;
    assert_eq!(status, 403);
    let (status, ..) = ask(&mut client, request("GET", "/v1/again", "")).await;
    assert_eq!((status, asked.load(Ordering::SeqCst)), (200, 2));
    let status = hokkaido.proxy.status().await;
    assert_eq!(status.flows.len(), 1, "all over one connection");
    assert!(status.flows[0].bytes_received > 0 && status.flows[0].bytes_sent > 0);
    assert_eq!(hokkaido.reasons(), ["request_denied", "request_denied"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_that_could_be_misread_are_refused() {
    let (backend, asked) = records().await;
    let lab = Lab::new(&[backend]);
    let _sites = sites(&lab, RULES).await;
    let mut stream = lab.connect().await;
    for target in [
        "/v1/../admin",
        "/v1/%2e%2e/admin",
        "/v1/..%2fadmin",
        "/v1/..%5cadmin",
        "/v1/..\\admin",
        "/v1/..;/admin",
        "/v1/%252e%252e/admin",
        "/v1//admin",
        "/v1/./a",
        "/v1/a;b",
        "/v1/a%00",
        "http://records/v1/a",
        "*",
    ] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: records\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, told) = response(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{target}: {head}");
        assert!(told.starts_with("the "), "{told}");
    }
    for headers in ["", "host: a\r\nhost: b\r\n"] {
        let request = format!("GET /v1/a HTTP/1.1\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (_, told) = response(&mut stream).await;
        assert_eq!(told, "a request names one host\n");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    for (asked, passed_on) in [
        ("OPTIONS *", "OPTIONS *\n"),
        ("GET /v1/a#/../b", "GET /v1/a\n"),
        (
            "GET /v1/%7Ea%2Bb?c=%2F..%2F",
            "GET /v1/%7Ea%2Bb?c=%2F..%2F\n",
        ),
    ] {
        let request = format!("{asked} HTTP/1.1\r\nhost: records\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let (_, told) = response(&mut stream).await;
        assert!(told.starts_with(passed_on), "{asked}: {told}");
    }
    let connect = b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nhost: records\r\n\r\n";
    stream.write_all(connect).await.unwrap();
    let head = head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_two_lengths_smuggles_nothing() {
    let lengths = ["content-length: 5", "transfer-encoding: chunked"];
    for order in [[0, 1], [1, 0]] {
        let (backend, asked) = records().await;
        let lab = Lab::new(&[backend]);
        let _sites = sites(&lab, RULES).await;
        let mut stream = lab.connect().await;
        let request = format!(
            "GET /v1/a HTTP/1.1\r\nhost: records\r\n{}\r\n{}\r\n\r\n0\r\n\r\n\
             GET /v1/smuggled HTTP/1.1\r\nhost: records\r\n\r\n",
            lengths[order[0]], lengths[order[1]]
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let (head, told) = response(&mut stream).await;
        assert!(head.contains("connection: close"), "{head}");
        assert!(!told.contains("content-length"), "{told}");
        assert_ended(&mut stream).await;
        assert_eq!(asked.load(Ordering::SeqCst), 1, "the second was never read");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_go_both_ways_with_their_trailers() {
    let (backend, _) = records().await;
    let lab = Lab::new(&[backend]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    let mut client = client(&lab).await;
    const CHUNK: usize = 65_536;
    const CHUNKS: usize = 800;
    let numbers: Bytes = (0..CHUNK + 251).map(|i| (i % 251) as u8).collect();
    let chunk = move |n: usize| numbers.slice(n % 251..n % 251 + CHUNK);
    let mut sent = Sha256::new();
    (0..CHUNKS).for_each(|n| sent.update(chunk(n)));
    let data = stream::iter((0..CHUNKS).map(move |n| Ok(Frame::data(chunk(n)))));
    let mut trailers = hyper::HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let last = stream::iter([Ok(Frame::trailers(trailers))]);
    let body = StreamBody::new(futures_util::StreamExt::chain(data, last));
    let put = Request::builder()
        .method("PUT")
        .uri("/v1/echo")
        .header("host", "records");
    let put = put.header("te", "trailers").header("trailer", "x-sum");
    let response = within(client.send_request(put.body(BodyExt::boxed(body)).unwrap()));
    let mut body = response.await.unwrap().into_body();
    let (mut got, mut length, mut sum) = (Sha256::new(), 0, None);
    while let Some(frame) = within(body.frame()).await {
        let frame = frame.unwrap();
        if let Some(data) = frame.data_ref() {
            got.update(data);
            length += data.len();
        } else if let Ok(trailers) = frame.into_trailers() {
            sum = trailers.get("x-sum").cloned();
        }
    }
    assert_eq!(length, CHUNK * CHUNKS);
    assert!(
        got.finalize() == sent.finalize(),
        "the bytes changed on the way"
    );
    assert_eq!(sum.expect("trailers"), "42");
    let status = hokkaido.proxy.status().await;
    assert!(status.totals[0].totals.bytes_sent > length as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_alone_and_bodies_on_demand() {
    let (backend, _) = records().await;
    let lab = Lab::new(&[backend]);
    let _sites = sites(&lab, RULES).await;
    let mut stream = lab.connect().await;
    let plain = |method: &str, path: &str, more: &str| {
        format!("{method} {path} HTTP/1.1\r\nhost: records\r\n{more}\r\n")
    };
    let asked = plain("HEAD", "/v1/records", "");
    stream.write_all(asked.as_bytes()).await.unwrap();
    let told = head(&mut stream).await;
    assert!(
        told.starts_with("HTTP/1.1 200 ") && told.contains("content-length: "),
        "{told}"
    );
    let demand = "expect: 100-continue\r\ncontent-length: 4\r\n";
    stream
        .write_all(plain("PUT", "/v1/echo?whole", demand).as_bytes())
        .await
        .unwrap();
    assert_eq!(head(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"data").await.unwrap();
    let (told, body) = response(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
    assert_eq!(body, "data");
    stream
        .write_all(plain("PUT", "/v2", demand).as_bytes())
        .await
        .unwrap();
    let (told, _) = response(&mut stream).await;
    assert!(
        told.starts_with("HTTP/1.1 403 "),
        "refused before the body: {told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_down_is_a_bad_gateway_and_others_take_over() {
    let (backend, _) = records().await;
    let lab = Lab::new(&[renkei_testkit::free_address()]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    let mut client = client(&lab).await;
    let (status, _, told) = ask(&mut client, request("PUT", "/v1/echo", "data")).await;
    assert_eq!(status, 502);
    assert_eq!(told, "no backend of hokkaido.example/broker answers\n");
    assert_eq!(hokkaido.reasons(), ["backend_unavailable"]);
    let dead = lab.backends[0].to_string();
    let both = text(&lab, RULES).replace(&format!("[{dead}]"), &format!("[{dead}, {backend}]"));
    hokkaido.apply(&both).await.unwrap();
    for _ in 0..3 {
        let (status, ..) = ask(&mut client, request("GET", "/v1/a", "")).await;
        assert_eq!(status, 200, "over the same connection of the caller");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_closes_is_dialled_again_and_one_that_breaks_off_is_told_of() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    let mut client = client(&lab).await;
    let (closed, mut has_closed) = tokio::sync::mpsc::unbounded_channel();
    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    let mut serve_one = async |answer: &'static str| {
        let mut stream = within(accepted.recv()).await.unwrap();
        let closed = closed.clone();
        tokio::spawn(async move {
            head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer == OK {
                // Up to the moment in which the other side has closed, too.
                stream.shutdown().await.unwrap();
                assert_ended(&mut stream).await;
                closed.send(()).unwrap();
            }
        });
    };
    for _ in 0..3 {
        let asking = ask(&mut client, request("GET", "/v1/a", ""));
        let ((status, _, body), ()) = tokio::join!(asking, serve_one(OK));
        assert_eq!((status, body.as_str()), (200, "ok"));
        within(has_closed.recv()).await.unwrap();
    }
    let asking = ask(&mut client, request("GET", "/v1/a", ""));
    let break_off_twice = async {
        serve_one("").await;
        serve_one("").await;
    };
    let ((status, _, told), ()) = tokio::join!(asking, break_off_twice);
    assert_eq!(status, 502);
    assert_eq!(
        told,
        "a backend of hokkaido.example/broker gave no response\n"
    );
    assert_eq!(hokkaido.reasons(), ["backend_failed"]);
    // Half a response must not look like a whole one.
    let half = "HTTP/1.0 200 OK\r\n\r\nhal";
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal";
    let mut stream = lab.connect().await;
    stream
        .write_all(b"GET /v1/a HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    serve_one(cut).await;
    let told = head(&mut stream).await;
    assert!(told.contains("content-length: 9"), "{told}");
    let mut rest = Vec::new();
    within(stream.read_to_end(&mut rest))
        .await
        .expect_err("a reset");
    let mut stream = lab.connect().await;
    stream
        .write_all(b"GET /v1/a HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    serve_one(half).await;
    let told = head(&mut stream).await;
    assert!(told.contains("transfer-encoding: chunked"), "{told}");
}

/// Asks for a WebSocket, with the first bytes of one behind it.
const ASK_FOR_WEBSOCKET: &[u8] = b"GET /v1/live HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-key: x\r\n\r\nearly";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: y\r\n\r\nhello";

#[tokio::test]
async fn a_websocket_becomes_a_tunnel() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = (impatient(&lab).await, lab.osaka().await);
    let mut app = lab.connect().await;
    app.write_all(ASK_FOR_WEBSOCKET).await.unwrap();
    let mut socket = within(accepted.recv()).await.unwrap();
    let asked = head(&mut socket).await;
    assert!(asked.contains("upgrade: websocket\r\n"), "{asked}");
    assert!(asked.contains("connection: upgrade\r\n"), "{asked}");
    assert!(asked.contains("sec-websocket-key: x\r\n"), "{asked}");
    socket.write_all(SWITCH).await.unwrap();
    let told = head(&mut app).await;
    assert!(told.starts_with("HTTP/1.1 101 "), "{told}");
    assert!(told.contains("sec-websocket-accept: y\r\n"), "{told}");
    let mut word = [0; 5];
    within(app.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"hello");
    within(socket.read_exact(&mut word)).await.unwrap();
    assert_eq!(&word, b"early");
    tokio::spawn(async move {
        let (mut read, mut write) = socket.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
        write.shutdown().await.unwrap();
    });
    lab::ping(&mut app, b"ping-pong").await;
    pass(LIMIT * 3 / 2).await;
    lab::ping(&mut app, b"still open").await;
    assert_eq!(hokkaido.open(), 1);
    app.shutdown().await.unwrap();
    assert_ended(&mut app).await;
    eventually("the tunnel ends", || (hokkaido.open() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_upgrades_become_no_tunnels() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, RULES).await;
    let mut app = lab.connect().await;
    let ask = "GET /v1/a HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings\r\n\
               upgrade: h2c\r\nhttp2-settings: x\r\n\r\n";
    app.write_all(ask.as_bytes()).await.unwrap();
    let mut socket = within(accepted.recv()).await.unwrap();
    let asked = head(&mut socket).await;
    assert!(
        !asked.contains("upgrade") && !asked.contains("http2"),
        "{asked}"
    );
    socket.write_all(SWITCH).await.unwrap();
    let (told, _) = response(&mut app).await;
    assert!(told.starts_with("HTTP/1.1 502 "), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_ends_with_the_right_to_it() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    let mut app = lab.connect().await;
    app.write_all(ASK_FOR_WEBSOCKET).await.unwrap();
    let mut socket = within(accepted.recv()).await.unwrap();
    head(&mut socket).await;
    socket.write_all(SWITCH).await.unwrap();
    head(&mut app).await;
    let nobody = text(&lab, "policy: none.rego").replace(ALLOW, "");
    hokkaido.apply(&nobody).await.unwrap();
    let mut rest = Vec::new();
    within(app.read_to_end(&mut rest))
        .await
        .expect_err("a reset");
    assert_reset_after(&mut socket, b"early").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rego_is_asked_for_every_request() {
    let (backend, _) = records().await;
    let lab = Lab::new(&[backend]);
    let hokkaido = Node::start(&text(&lab, RULES), lab.hokkaido_identities()).await;
    let rules = r#"package renkei.authz

deny contains "secret: closed at night" if input.operation.path == "/v1/night"
allow if input.operation.kind == "connect"
allow if { input.operation.kind == "http"; input.operation.method in {"GET", "HEAD"} }
"#;
    let mut state = desired(&text(&lab, RULES).replace(&format!("{RULES}, "), ""));
    let rego = RegoModule::compile("broker.rego", rules).unwrap();
    let policy = ServicePolicy::new(id("hokkaido.example/broker"), Vec::new(), Some(rego));
    state.policies.insert("broker".to_owned(), Arc::new(policy));
    hokkaido.proxy.apply(state).await.unwrap();
    let _osaka = lab.osaka().await;
    let mut client = client(&lab).await;
    for (method, path, expected) in [
        ("GET", "/v1/day", 200),
        ("GET", "/v1/night", 403),
        ("GET", "/v1/%6eight", 403),
        ("POST", "/v1/day", 403),
        ("GET", "/v1/day", 200),
    ] {
        let (status, _, told) = ask(&mut client, request(method, path, "")).await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(!told.contains("secret"), "{told}");
    }
    let sentence = hokkaido.refusal("request_denied").await;
    assert!(
        sentence.contains("nor does broker.rego let it"),
        "{sentence}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_the_rules_holds_for_the_next_request() {
    let (backend, _) = records().await;
    let lab = Lab::new(&[backend]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    let mut client = client(&lab).await;
    let (status, ..) = ask(&mut client, request("GET", "/v1/a", "")).await;
    assert_eq!(status, 200);
    let fewer = text(&lab, "methods: {osaka.example/collector: [GET /v2/*]}");
    let applied = hokkaido.apply(&fewer).await.unwrap();
    assert_eq!(applied.cut, 0);
    let (status, ..) = ask(&mut client, request("GET", "/v1/a", "")).await;
    assert_eq!(status, 403);
    let mut idle = lab.connect().await;
    idle.write_all(b"GET /v2/a HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    response(&mut idle).await;
    let applied = hokkaido.apply(&lab.hokkaido_text(ALLOW)).await.unwrap();
    assert_eq!(applied.cut, 2, "the rules would not hold for tcp");
    assert_reset(&mut idle).await;
}

#[tokio::test]
async fn a_head_must_come_in_time_but_the_next_request_need_not() {
    let (backend, _) = records().await;
    let lab = Lab::new(&[backend]);
    let _hokkaido = impatient(&lab).await;
    let _osaka = lab.osaka().await;
    let mut stream = lab.connect().await;
    for _ in 0..2 {
        stream
            .write_all(b"GET /v1/a HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let (told, _) = response(&mut stream).await;
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
        pass(LIMIT * 3 / 2).await;
    }
    stream.write_all(b"GET /v1/a HTTP/1.1\r\n").await.unwrap();
    let (told, _) = pass_until(LIMIT / 4, response(&mut stream)).await;
    assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
    assert_ended(&mut stream).await;
    let mut stream = lab.connect().await;
    let endless = format!("GET /v1/a HTTP/1.1\r\nx: {}", "y".repeat(100_000));
    stream.write_all(endless.as_bytes()).await.unwrap();
    let told = head(&mut stream).await;
    assert!(told.starts_with("HTTP/1.1 431 "), "{told}");
}
