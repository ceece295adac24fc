//! Backends that close, stall or fall silent: no request is lost without need, and none waits for
//! ever.

use std::sync::Mutex;

use futures_util::future::join_all;

use super::*;

const ANY: &str = "methods: {osaka.example/collector: ['*']}";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// How a backend ends a kept connection when a request comes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Close {
    Fin,
    Reset,
    /// After the first bytes of an answer.
    Answering,
}

/// A backend that answers the first request of a connection, and closes at the second; gives the
/// first lines of all requests.
async fn forgetful(close: Close) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = seen.clone();
            tokio::spawn(async move {
                let note = |head: String| {
                    let line = head.lines().next().unwrap().to_owned();
                    asked.lock().unwrap().push(line);
                };
                let first = head(&mut stream).await;
                let length = first.lines().find_map(|line| {
                    let length = line.strip_prefix("content-length: ");
                    length.map(|length| length.parse::<usize>().unwrap())
                });
                let mut body = vec![0; length.unwrap_or(0)];
                stream.read_exact(&mut body).await.unwrap();
                if first.contains("chunked") {
                    while !body.ends_with(b"0\r\n\r\n") {
                        body.push(stream.read_u8().await.unwrap());
                    }
                }
                note(first);
                let _ = stream.write_all(OK.as_bytes()).await;
                note(head(&mut stream).await);
                match close {
                    Close::Fin => stream.shutdown().await.unwrap(),
                    Close::Reset => lab::middlebox::reset(stream),
                    Close::Answering => stream.write_all(b"HTTP/1.1 2").await.unwrap(),
                }
            });
        }
    });
    (address, asked)
}

fn body_of(stream: bool, body: &'static [u8]) -> Body {
    match stream {
        true => {
            let parts = body.chunks(3).map(|part| Ok(Frame::data(part.into())));
            BodyExt::boxed(StreamBody::new(stream::iter(parts)))
        }
        false => Full::from(body).boxed(),
    }
}

async fn ask_with(client: &mut SendRequest<Body>, method: &str, body: Body) -> (u16, String) {
    within(client.ready()).await.unwrap();
    let request = Request::builder().method(method).uri("/v1/a");
    let request = request.header("host", "a").body(body).unwrap();
    let response = within(client.send_request(request)).await.unwrap();
    let status = response.status().as_u16();
    let body = within(response.into_body().collect()).await;
    let body = body
        .map(|body| body.to_bytes().to_vec())
        .unwrap_or_default();
    (status, String::from_utf8(body).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_does_no_harm_goes_out_again_when_a_kept_connection_closes() {
    for close in [Close::Fin, Close::Reset] {
        let (backend, asked) = forgetful(close).await;
        let lab = Lab::new(&[backend]);
        let (hokkaido, _osaka) = sites(&lab, ANY).await;
        for method in ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"] {
            for (stream, body) in [
                (false, b"".as_slice()),
                (false, b"payload"),
                (true, b"payload"),
            ] {
                let mut client = client(&lab).await;
                let (status, _) = ask_with(&mut client, "GET", body_of(false, b"")).await;
                assert_eq!(status, 200);
                // It may have met a connection that an earlier session has left.
                asked.lock().unwrap().clear();
                let (status, told) = ask_with(&mut client, method, body_of(stream, body)).await;
                assert_eq!(status, 200, "{close:?} {method} {body:?} {stream}: {told}");
                let asked = std::mem::take(&mut *asked.lock().unwrap());
                let line = format!("{method} /v1/a HTTP/1.1");
                assert_eq!(asked, [line.clone(), line]);
            }
        }
        assert!(hokkaido.reasons().is_empty(), "{:?}", hokkaido.reasons());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_may_have_had_its_effect_does_not() {
    for (method, close) in [
        ("POST", Close::Fin),
        ("POST", Close::Reset),
        ("PATCH", Close::Fin),
        ("GET", Close::Answering),
    ] {
        let (backend, asked) = forgetful(close).await;
        let lab = Lab::new(&[backend]);
        let (hokkaido, _osaka) = sites(&lab, ANY).await;
        let mut client = client(&lab).await;
        ask_with(&mut client, "GET", body_of(false, b"")).await;
        let (status, told) = ask_with(&mut client, method, body_of(false, b"data")).await;
        assert_eq!(
            (status, told.as_str()),
            (
                502,
                "a backend of hokkaido.example/broker gave no response\n"
            )
        );
        assert_eq!(asked.lock().unwrap().len(), 2, "{method} {close:?}");
        assert_eq!(hokkaido.reasons(), ["backend_failed"]);
    }
}

/// A backend that reads a request and closes on every second connection, beginning with the first.
async fn every_second() -> (SocketAddr, Arc<Mutex<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(0));
    let seen = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            head(&mut stream).await;
            let count = {
                let mut seen = seen.lock().unwrap();
                *seen += 1;
                *seen
            };
            if count % 2 == 0 {
                let _ = stream.write_all(OK.as_bytes()).await;
            }
        }
    });
    (address, asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_does_no_harm_goes_out_again_when_a_new_connection_closes() {
    let (backend, asked) = every_second().await;
    let lab = Lab::new(&[backend]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    for method in ["GET", "PUT"] {
        let mut client = client(&lab).await;
        let (status, told) = ask_with(&mut client, method, body_of(false, b"")).await;
        assert_eq!(status, 200, "{method}: {told}");
    }
    assert_eq!(*asked.lock().unwrap(), 4);
    assert!(hokkaido.reasons().is_empty(), "{:?}", hokkaido.reasons());
    let mut client = client(&lab).await;
    let (status, _) = ask_with(&mut client, "POST", body_of(false, b"")).await;
    assert_eq!((status, *asked.lock().unwrap()), (502, 5));
}

/// What the system knows, the request need not find out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_goes_to_a_connection_that_has_been_closed() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    let mut client = client(&lab).await;
    let serve = async {
        for _ in 0..100 {
            let mut socket = within(accepted.recv()).await.unwrap();
            head(&mut socket).await;
            // Closed with its answer, and without a word of it.
            socket.write_all(OK.as_bytes()).await.unwrap();
        }
    };
    let ask = async {
        for _ in 0..100 {
            let answer = ask_with(&mut client, "POST", body_of(false, b"")).await;
            assert_eq!(answer, (200, "ok".to_owned()));
        }
    };
    tokio::join!(ask, serve);
    assert!(hokkaido.reasons().is_empty(), "{:?}", hokkaido.reasons());
}

/// A backend that closes a kept connection that was idle for a moment, whether or not a request
/// is on its way.
async fn impatient_backend(idle: Duration) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                let mut wait = lab::DEADLINE;
                loop {
                    let mut space = [0; 4096];
                    let read = tokio::time::timeout(wait, stream.read(&mut space)).await;
                    let Ok(Ok(count @ 1..)) = read else { return };
                    head.extend_from_slice(space.get(..count).unwrap());
                    if head.ends_with(b"\r\n\r\n") {
                        head.clear();
                        wait = idle;
                        stream.write_all(OK.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_meet_a_closing_connection_are_all_answered() {
    const IDLE: Duration = Duration::from_millis(10);
    let lab = Lab::new(&[impatient_backend(IDLE).await]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    let caller = async || {
        let mut client = client(&lab).await;
        for _ in 0..40 {
            let (status, told) = ask_with(&mut client, "GET", body_of(false, b"")).await;
            assert_eq!(status, 200, "{told}");
            tokio::time::sleep(IDLE).await;
        }
    };
    join_all((0..64).map(|_| caller())).await;
    assert!(hokkaido.reasons().is_empty(), "{:?}", hokkaido.reasons());
}

const SOON: &str = "response_timeout: 1s, methods: {osaka.example/collector: ['*']}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_says_nothing_is_given_up() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, SOON).await;
    let mut client = client(&lab).await;
    let told = "a backend of hokkaido.example/broker gave no response in time\n".to_owned();
    for method in ["GET", "POST"] {
        let answer = ask_with(&mut client, method, body_of(false, b"")).await;
        assert_eq!(answer, (504, told.clone()));
        let mut socket = within(accepted.recv()).await.unwrap();
        assert!(head(&mut socket).await.starts_with(method));
        assert_ended(&mut socket).await;
    }
    // One that does not even read.
    let upload = vec![b'y'; 32 << 20].leak();
    let answer = ask_with(&mut client, "POST", body_of(false, upload)).await;
    assert_eq!(answer, (504, told));
    assert_eq!(hokkaido.reasons(), ["backend_timeout"; 3]);
    let sentence = hokkaido.refusal("backend_timeout").await;
    assert_eq!(
        sentence,
        "a backend of broker took nothing of a request for 1 s"
    );
}

#[tokio::test]
async fn what_takes_its_time_but_moves_is_not_given_up() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let patient = SOON.replace("1s", "60s");
    let (hokkaido, _osaka) = sites(&lab, &patient).await;
    let pause = async || {
        settle().await;
        pass(Duration::from_secs(90)).await;
        settle().await;
    };
    let mut app = lab.connect().await;
    // A slow caller is not the backend's fault,
    let ask = b"PUT /v1/a HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nslow";
    app.write_all(ask).await.unwrap();
    let mut socket = within(accepted.recv()).await.unwrap();
    head(&mut socket).await;
    pause().await;
    app.write_all(b"ness").await.unwrap();
    let mut body = [0; 8];
    within(socket.read_exact(&mut body)).await.unwrap();
    // and a stream of events may pause.
    let start = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    socket.write_all(start).await.unwrap();
    head(&mut app).await;
    for _ in 0..2 {
        pause().await;
        socket.write_all(b"data: x\n\n").await.unwrap();
        let mut chunk = [0; 14];
        within(app.read_exact(&mut chunk)).await.unwrap();
        assert_eq!(&chunk, b"9\r\ndata: x\n\n\r\n");
    }
    assert!(hokkaido.reasons().is_empty(), "{:?}", hokkaido.reasons());
}

#[tokio::test]
async fn a_response_that_pauses_for_too_long_ends_in_a_reset_with_its_reason() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let limits = ProxyLimits {
        backend_idle_timeout: Duration::from_secs(60),
        ..ProxyLimits::default()
    };
    let identities = lab.hokkaido_identities();
    let hokkaido = Node::start_with(&text(&lab, ANY), identities, limits, None).await;
    let _osaka = lab.osaka().await;
    let mut app = lab.connect().await;
    let ask = b"GET /v1/a HTTP/1.1\r\nhost: a\r\n\r\n";
    app.write_all(ask).await.unwrap();
    let mut socket = within(accepted.recv()).await.unwrap();
    head(&mut socket).await;
    let start = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    socket.write_all(start).await.unwrap();
    head(&mut app).await;
    let reset = assert_reset_after(&mut app, b"half");
    pass_until(Duration::from_secs(20), reset).await;
    let sentence = hokkaido.refusal("backend_timeout").await;
    assert_eq!(
        sentence,
        "a backend of broker broke off its response: nothing came for 60 s"
    );
    // One that breaks off by itself is told of as well.
    let mut app = lab.connect().await;
    app.write_all(ask).await.unwrap();
    let mut socket = within(accepted.recv()).await.unwrap();
    head(&mut socket).await;
    socket.write_all(start).await.unwrap();
    drop(socket);
    hokkaido.refusal("backend_failed").await;
}
