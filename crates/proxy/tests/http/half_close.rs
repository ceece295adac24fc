//! Callers that end their direction, or are gone, before they have their answer.

use super::*;

const ASK: &str = "GET /v1/a HTTP/1.1\r\nhost: a\r\n\r\n";

/// Sends these bytes, then an end; gives all that comes back.
async fn exchange(stream: &mut Box<dyn Stream>, bytes: &[u8]) -> std::io::Result<String> {
    stream.write_all(bytes).await?;
    stream.shutdown().await?;
    let mut all = Vec::new();
    within(stream.read_to_end(&mut all)).await?;
    Ok(String::from_utf8(all).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_sent_all_requests_gets_all_answers() {
    let (backend, asked) = records().await;
    let lab = Lab::new(&[backend]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    let upload = "PUT /v1/echo HTTP/1.1\r\nhost: a\r\n";
    let chunked = format!("{upload}transfer-encoding: chunked\r\n\r\n4\r\ndata\r\n0\r\n\r\n");
    let sized = format!("{upload}content-length: 4\r\n\r\ndata");
    let refused = "POST /v1/a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    for (requests, count) in [
        (ASK.to_owned(), 1),
        (ASK.repeat(20), 20),
        (chunked.clone(), 1),
        (sized.clone(), 1),
        (format!("{ASK}{chunked}{sized}{refused}{ASK}"), 5),
    ] {
        for (kind, mut stream) in both(&lab).await {
            let answers = exchange(&mut stream, requests.as_bytes()).await.unwrap();
            let found = answers.matches("HTTP/1.1 ").count();
            assert_eq!(found, count, "{kind}: {requests}\n{answers}");
            let denied = answers.matches("HTTP/1.1 403 ").count();
            let good = answers.matches("HTTP/1.1 200 ").count();
            assert_eq!(
                (good + denied, denied),
                (count, requests.matches(refused).count())
            );
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 2 * 27);
    eventually("the sessions end", || (hokkaido.open() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_takes_its_time_is_waited_for() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, RULES).await;
    for (kind, mut stream) in both(&lab).await {
        let answer = exchange(&mut stream, ASK.as_bytes());
        let serve = async {
            let mut socket = within(accepted.recv()).await.unwrap();
            head(&mut socket).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let start = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nda";
            socket.write_all(start).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            socket.write_all(b"ta").await.unwrap();
            socket
        };
        let (answer, _socket) = tokio::join!(answer, serve);
        assert!(answer.unwrap().ends_with("\r\n\r\ndata"), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_request_is_never_a_whole_one() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    for framing in [
        "content-length: 9\r\n\r\nhalf",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let half = format!("PUT /v1/echo HTTP/1.1\r\nhost: a\r\n{framing}");
        for (kind, mut stream) in both(&lab).await {
            let answer = exchange(&mut stream, half.as_bytes());
            let serve = async {
                let mut socket = within(accepted.recv()).await.unwrap();
                let mut all = Vec::new();
                let _ = within(socket.read_to_end(&mut all)).await;
                String::from_utf8(all).unwrap()
            };
            let (answer, request) = tokio::join!(answer, serve);
            let answer = answer.unwrap();
            assert!(answer.starts_with("HTTP/1.1 400 "), "{kind}: {answer}");
            let whole = match request.split_once("\r\n\r\n") {
                Some((head, body)) if head.contains("chunked") => body.ends_with("0\r\n\r\n"),
                Some((_, body)) => body.len() >= 9,
                None => false,
            };
            assert!(!whole, "{kind}: {request}");
        }
    }
    assert_eq!(hokkaido.reasons(), ["request_aborted"; 4]);
    let mut app = lab.connect().await;
    app.write_all(b"GET /v1/a HTTP/1.1\r\nho").await.unwrap();
    app.shutdown().await.unwrap();
    let (told, _) = response(&mut app).await;
    assert!(told.starts_with("HTTP/1.1 400 "), "{told}");
    assert_ended(&mut app).await;
    assert_eq!(hokkaido.reasons(), ["request_aborted"; 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_gone_ends_its_request() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, RULES).await;
    // Requests that wait their turn hide nothing.
    for waiting in [0, 1, 100] {
        let mut app = lab.connect().await;
        app.write_all(ASK.as_bytes()).await.unwrap();
        let mut socket = within(accepted.recv()).await.unwrap();
        head(&mut socket).await;
        app.write_all(ASK.repeat(waiting).as_bytes()).await.unwrap();
        lab::middlebox::reset(app);
        let mut rest = Vec::new();
        let _ = within(socket.read_to_end(&mut rest)).await;
        assert!(rest.is_empty(), "{waiting}");
    }
    eventually("the sessions end", || (hokkaido.open() == 0).then_some(())).await;
}
