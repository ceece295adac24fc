//! Connections to backends that sessions of several callers use, one after the other.

use lab::path::Path;
use renkei_testkit::free_address;
use tokio::sync::mpsc;

use super::{
    raw::{ANY, ASK, OK},
    *,
};

const BOTH: &str = "methods: {osaka.example/collector: ['*'], osaka.example/reader: ['*']}";

/// A backend that says in each answer over which of its connections it was asked, and by whom.
async fn numbered() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = accepted.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = service_fn(|request: Request<Incoming>| async move {
                let peer = request.headers().get("x-renkei-peer").unwrap().clone();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let told = format!("{} {}", peer.to_str().unwrap(), body.len());
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(told))))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    (address, accepted)
}

/// One request over a connection of its own, up to its end; gives the body.
async fn ask_once(listen: SocketAddr, request: &str) -> String {
    let mut app = TcpStream::connect(listen).await.unwrap();
    let request = format!("{request}host: a\r\nconnection: close\r\n\r\n");
    app.write_all(request.as_bytes()).await.unwrap();
    let mut all = String::new();
    within(app.read_to_string(&mut all)).await.unwrap();
    let (_, body) = all.split_once("\r\n\r\n").expect("a response");
    body.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_share_connections_and_each_request_names_its_own() {
    let (backend, accepted) = numbered().await;
    let path = Path::to(Lab::new(&[backend])).await;
    let listen = free_address();
    let with = format!("broker: {{protocol: http, {BOTH}, ");
    let allow = "osaka.example/collector, osaka.example/reader";
    let text = path.lab.hokkaido_text(allow).replace("broker: {", &with);
    let _hokkaido = Node::start(&text, path.lab.hokkaido_identities()).await;
    let _osaka = path.osaka_with_reader(listen).await;
    for _ in 0..15 {
        for (listen, caller) in [(path.lab.listen, "collector"), (listen, "reader")] {
            let told = ask_once(listen, "GET /v1/a HTTP/1.1\r\n").await;
            assert_eq!(told, format!("spiffe://osaka.example/{caller} 0"));
        }
    }
    // A session may begin before the one before it has ended here.
    let accepted = accepted.load(Ordering::SeqCst);
    assert!(accepted <= 10, "{accepted} connections for 30 requests");
}

/// No request is lost to a connection that its backend has closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_its_backend_has_closed_is_not_used_again() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    let serve = async {
        for _ in 0..50 {
            let mut socket = within(accepted.recv()).await.unwrap();
            head(&mut socket).await;
            socket.write_all(OK.as_bytes()).await.unwrap();
        }
    };
    let ask = async {
        for _ in 0..50 {
            let told = ask_once(lab.listen, "POST /v1/a HTTP/1.1\r\n").await;
            assert_eq!(told, "ok");
        }
    };
    tokio::join!(ask, serve);
    assert!(hokkaido.reasons().is_empty(), "{:?}", hokkaido.reasons());
}

/// A backend that gives every request this answer; how many connections it has had.
async fn answering(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let (address, mut accepted) = backend().await;
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    tokio::spawn(async move {
        while let Some(mut stream) = accepted.recv().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                // Heads alone: what is left of a body is part of the next.
                while let Ok(byte) = stream.read_u8().await {
                    seen.push(byte);
                    if seen.ends_with(b"\r\n\r\n") {
                        seen.clear();
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                }
            });
        }
    });
    (address, count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_be_one_callers_alone_is_not_shared() {
    const NTLM: &str =
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: NTLM\r\ncontent-length: 0\r\n\r\n";
    const OLD: &str = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
    const BRIEF: &str = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n\r\nok";
    for (request, answer) in [
        ("GET /v1/a HTTP/1.1\r\nauthorization: Negotiate YII\r\n", OK),
        ("GET /v1/a HTTP/1.1\r\nauthorization: NTLM TlR\r\n", OK),
        ("GET /v1/a HTTP/1.1\r\n", NTLM),
        ("GET /v1/a HTTP/1.1\r\n", OLD),
        ("GET /v1/a HTTP/1.1\r\n", BRIEF),
    ] {
        let (backend, accepted) = answering(answer).await;
        let lab = Lab::new(&[backend]);
        let _sites = sites(&lab, ANY).await;
        for sessions in 1..=4 {
            ask_once(lab.listen, request).await;
            assert_eq!(
                accepted.load(Ordering::SeqCst),
                sessions,
                "{request}{answer}"
            );
        }
    }
}

/// A backend that does not read the body of a GET takes it for the next request: its answer must
/// not reach the next caller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_a_backend_may_not_read_is_followed_by_nobody_elses_request() {
    let (backend, accepted) = answering(OK).await;
    let lab = Lab::new(&[backend]);
    let _sites = sites(&lab, ANY).await;
    for sessions in 1..=3 {
        let mut app = lab.connect().await;
        let hidden = "GET /v1/hidden HTTP/1.1\r\nhost: a\r\n\r\n";
        let length = hidden.len();
        let ask = format!("{ASK}content-length: {length}\r\nconnection: close\r\n\r\n{hidden}");
        app.write_all(ask.as_bytes()).await.unwrap();
        let _ = within(app.read_to_end(&mut Vec::new())).await;
        assert_eq!(accepted.load(Ordering::SeqCst), sessions);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_with_half_a_response_is_not_used_again() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, ANY).await;
    let ask = format!("{ASK}\r\n");
    let mut first = lab.connect().await;
    first.write_all(ask.as_bytes()).await.unwrap();
    let mut half = within(accepted.recv()).await.unwrap();
    head(&mut half).await;
    let start = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf";
    half.write_all(start).await.unwrap();
    head(&mut first).await;
    lab::middlebox::reset(first);
    // It is ended, and the next caller has another one.
    assert_ended(&mut half).await;
    let mut second = lab.connect().await;
    second.write_all(ask.as_bytes()).await.unwrap();
    let mut socket = within(accepted.recv()).await.unwrap();
    head(&mut socket).await;
    socket.write_all(OK.as_bytes()).await.unwrap();
    assert_eq!(response(&mut second).await.1, "ok");
}

/// Asks once, and gives the backend's end of the connection that is left idle.
async fn left_idle(lab: &Lab, accepted: &mut mpsc::Receiver<TcpStream>, answer: &str) -> TcpStream {
    let asking = ask_once(lab.listen, "GET /v1/a HTTP/1.1\r\n");
    let answering = async {
        let mut socket = within(accepted.recv()).await.unwrap();
        head(&mut socket).await;
        socket.write_all(answer.as_bytes()).await.unwrap();
        socket
    };
    let (told, socket) = tokio::join!(asking, answering);
    assert_eq!(told, "ok");
    settle().await;
    socket
}

#[tokio::test]
async fn an_idle_connection_ends_before_the_backend_would_end_it() {
    const FIVE: &str = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\ncontent-length: 2\r\n\r\nok";
    for (answer, kept, gone) in [(OK, 1, 2), (FIVE, 3, 5)] {
        let (address, mut accepted) = backend().await;
        let lab = Lab::new(&[address]);
        let _sites = sites(&lab, ANY).await;
        let mut socket = left_idle(&lab, &mut accepted, answer).await;
        for _ in 0..kept {
            pass(Duration::from_secs(1)).await;
            settle().await;
        }
        let quiet = socket.try_read(&mut [0]).expect_err("nothing to read");
        assert_eq!(quiet.kind(), std::io::ErrorKind::WouldBlock, "{answer}");
        for _ in kept..gone {
            pass(Duration::from_secs(1)).await;
            settle().await;
        }
        assert_ended(&mut socket).await;
    }
}
