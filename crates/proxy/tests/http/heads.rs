//! Heads and framing of messages: what HTTP allows goes through, whoever sends it.

use super::raw::*;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_limited_in_bytes_and_not_in_fields() {
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    for count in [75, 101, 1000, 5900] {
        let request = format!("{ASK}{}\r\n", fields(count));
        let answer = exchange(&lab, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{count}: {answer}");
        let got = within(got.recv()).await.unwrap();
        assert!(got.contains(&format!("x-{}: 1\r\n", count - 1)), "{got}");
    }
    let many = fields(200);
    for large in [
        format!("{ASK}x: {}\r\n\r\n", "y".repeat(64 * 1024)),
        format!("{ASK}{many}x: {}\r\n\r\n", "y".repeat(64 * 1024)),
        format!("{ASK}{}\r\n", fields(8000)),
    ] {
        let answer = exchange(&lab, large.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let all = ["head_too_large"; 3];
    eventually("three refusals", || {
        (hokkaido.reasons() == all).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_behind_many_others_count_as_much() {
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, ANY).await;
    let many = fields(200);
    let put = format!(
        "PUT /v1/a HTTP/1.1\r\n{many}host: a\r\nx-own: 1\r\nconnection: x-own\r\n\
         content-length: 4\r\nx-1: 2\r\n\r\ndata"
    );
    let answers = exchange(&lab, put.repeat(2).as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
    for _ in 0..2 {
        let got = within(got.recv()).await.unwrap();
        assert!(got.ends_with("\r\n\r\ndata"), "{got}");
        assert!(!got.contains("x-own"), "{got}");
        assert!(got.contains("\r\nx-1: 1\r\nx-1: 2\r\n"), "{got}");
    }
    for name in ["x-renkei-peer", "x.renkei.peer", "x-forwarded-client-cert"] {
        let forged = format!("{ASK}{many}{name}: admin\r\n\r\n");
        exchange(&lab, forged.as_bytes()).await;
        let got = within(got.recv()).await.unwrap();
        assert!(!got.contains("admin"), "{got}");
    }
    for bad in [" folded\r\n", "bad : 1\r\n", "no field\r\n", ": 1\r\n"] {
        let request = format!("{ASK}{many}{bad}\r\n");
        let answer = exchange(&lab, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad}: {answer}");
    }
    assert!(got.try_recv().is_err(), "nothing else came to the backend");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_response_has_the_same_limit() {
    for count in [75, 101, 1000, 5900] {
        let response = OK.replace("\r\n\r\n", &format!("\r\n{}\r\n", fields(count)));
        let (answer, reasons) = answered_with(&response).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{count}: {answer}");
        assert!(
            answer.contains(&format!("x-{}: 1\r\n", count - 1)),
            "{answer}"
        );
        assert!(reasons.is_empty(), "{reasons:?}");
    }
    let (many, long) = (fields(200), "y".repeat(64 * 1024));
    for more in [
        format!("x: {long}\r\n"),
        format!("{many}x: {long}\r\n"),
        fields(8000),
    ] {
        let large = OK.replace("\r\n\r\n", &format!("\r\n{more}\r\n"));
        let (answer, reasons) = answered_with(&large).await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
        assert_eq!(reasons, ["backend_failed"]);
    }
    // What looks like fields in a body is none, and the end of a response is found behind many.
    let body = "x: y\r\n".repeat(400) + "\r\n";
    let response = format!(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\n{many}\
         x-a : b\r\n c\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for response in [response.clone(), response.replace(&*many, "")] {
        let (answer, reasons) = answered_with(&response).await;
        assert!(answer.starts_with("HTTP/1.1 103 "), "{answer}");
        assert!(answer.contains("\r\nx-a: b"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
        assert!(reasons.is_empty(), "{reasons:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_with_spaces_before_the_colon_or_folded_lines_are_mended() {
    let response = "HTTP/1.1 200 OK\r\nx-a : b\r\nx-c: d\r\n e\r\ncontent-length : 2\r\n\r\nok";
    let (answer, reasons) = answered_with(response).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("\r\nx-a: b\r\n"), "{answer}");
    let folded = answer.lines().find_map(|line| line.strip_prefix("x-c: "));
    let words: Vec<&str> = folded.unwrap().split_whitespace().collect();
    assert_eq!(words, ["d", "e"]);
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(reasons.is_empty(), "{reasons:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_responses_come_before_the_response() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
                   HTTP/1.1 103 Early Hints\r\nlink: </style.css>\r\nlink: </a.js>\r\n\
                   connection: x-own\r\nx-own: 1\r\n\r\n";
    let told = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\
                link: </style.css>\r\nlink: </a.js>\r\n\r\nHTTP/1.1 200 OK\r\n";
    let (address, _got) = scripted(vec![interim, OK].leak()).await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    let get = format!("{ASK}\r\n");
    // Requests that wait their turn have theirs as well.
    let answers = exchange(&lab, get.repeat(3).as_bytes()).await;
    assert_eq!(answers.matches(told).count(), 3, "{answers}");
    assert_eq!(answers.matches("\r\n\r\nok").count(), 3, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 9, "{answers}");
    let old = exchange(&lab, b"GET /v1/a HTTP/1.0\r\nhost: a\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 "), "{old}");
    assert!(hokkaido.reasons().is_empty(), "{:?}", hokkaido.reasons());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interim_response_does_not_wait_for_the_response() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, ANY).await;
    for (kind, mut stream) in both(&lab).await {
        stream
            .write_all(format!("{ASK}\r\n").as_bytes())
            .await
            .unwrap();
        stream.flush().await.unwrap();
        let mut socket = within(accepted.recv()).await.unwrap();
        head(&mut socket).await;
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
        socket.write_all(hints.as_bytes()).await.unwrap();
        assert_eq!(head(&mut stream).await, hints, "{kind}");
        socket.write_all(OK.as_bytes()).await.unwrap();
        assert_eq!(response(&mut stream).await.1, "ok", "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfer_codings_keep_their_names() {
    const BODY: &str = "4\r\ndata\r\n0\r\n\r\n";
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    let put = |codings: &str| format!("PUT /v1/a HTTP/1.1\r\nhost: a\r\n{codings}\r\n\r\n{BODY}");
    for codings in [
        "transfer-encoding: gzip, chunked",
        "Transfer-Encoding: GZIP\r\ntransfer-encoding: chunked",
    ] {
        let answer = exchange(&lab, put(codings).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let got = within(got.recv()).await.unwrap();
        assert!(
            got.contains("transfer-encoding: gzip, chunked\r\n"),
            "{got}"
        );
        assert!(got.ends_with(BODY), "{got}");
    }
    for (codings, status) in [
        ("transfer-encoding: magic, chunked", "501"),
        ("transfer-encoding: chunked, chunked", "400"),
        ("transfer-encoding: chunked, gzip", "400"),
    ] {
        let answer = exchange(&lab, put(codings).as_bytes()).await;
        assert_eq!(answer.get(9..12), Some(status), "{codings}: {answer}");
    }
    let all = ["bad_request"; 3];
    eventually("three refusals", || {
        (hokkaido.reasons() == all).then_some(())
    })
    .await;
    let gzip = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n{BODY}");
    let (answer, _) = answered_with(&gzip).await;
    assert!(
        answer.contains("transfer-encoding: gzip, chunked\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with(BODY), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn characters_that_should_be_encoded_in_a_target_are() {
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    let body = "GET /\"<>\" \"<> HTTP/1.1\r\n\r\n";
    let sized = format!(
        "PUT /v1/<a>?q=\"<b>\" HTTP/1.1\r\nhost: a\r\nx-a: \"<>\"\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let chunked = format!(
        "PUT /v1/`a`?q=\u{e9} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x};a=\"<>\"\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let answers = exchange(&lab, [&*sized, &*chunked, &*sized].concat().as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
    let sized = "PUT /v1/%3Ca%3E?q=%22%3Cb%3E%22 HTTP/1.1\r\n";
    for line in [sized, "PUT /v1/%60a%60?q=%C3%A9 HTTP/1.1\r\n", sized] {
        let got = within(got.recv()).await.unwrap();
        assert!(got.starts_with(line), "{got}");
        assert!(got.contains(body), "{got}");
        assert!(line != sized || got.contains("x-a: \"<>\"\r\n"), "{got}");
    }
    let latin = b"GET /v1/a?q=\xe9 HTTP/1.1\r\nhost: a\r\n\r\n";
    exchange(&lab, latin).await;
    let got = within(got.recv()).await.unwrap();
    assert!(got.starts_with("GET /v1/a?q=%E9 HTTP/1.1\r\n"), "{got}");
    assert!(hokkaido.reasons().is_empty(), "{:?}", hokkaido.reasons());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_breaks_off_is_not_the_backends_fault() {
    let lab = Lab::new(&[records().await.0]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    let put = "PUT /v1/echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\ndata\r\n";
    for (count, broken) in ["zz\r\n\r\n", "4\r\ndata!", "0\r\nno trailer\r\n\r\n", ""]
        .into_iter()
        .enumerate()
    {
        // The backend answers as soon as it has the head.
        let mut app = lab.connect().await;
        app.write_all(put.as_bytes()).await.unwrap();
        let told = head(&mut app).await;
        assert!(told.starts_with("HTTP/1.1 200 "), "{told}");
        app.write_all(broken.as_bytes()).await.unwrap();
        app.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let end = within(app.read_to_end(&mut rest)).await;
        let whole = rest.ends_with(b"0\r\n\r\n");
        assert!(
            end.is_err() && !whole,
            "{broken:?}: half a response looks whole"
        );
        let expected = vec!["request_aborted"; count + 1];
        eventually("a refusal", || {
            (hokkaido.reasons() == expected).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_http_1_0_names_the_service_as_its_host() {
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, ANY).await;
    for (headers, host) in [
        ("", "broker.hokkaido.example"),
        ("connection: keep-alive\r\n", "broker.hokkaido.example"),
        ("host: own\r\n", "own"),
    ] {
        let request = format!("GET /v1/a HTTP/1.0\r\n{headers}\r\n");
        let answer = exchange(&lab, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        let got = within(got.recv()).await.unwrap();
        assert!(got.starts_with("GET /v1/a HTTP/1.1\r\n"), "{got}");
        assert_eq!(got.matches("host: ").count(), 1, "{got}");
        assert!(got.contains(&format!("\r\nhost: {host}\r\n")), "{got}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_look_like_those_of_the_framing_are_removed() {
    let (address, mut got) = scripted(&[OK]).await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, ANY).await;
    for name in [
        "Transfer_Encoding",
        "transfer.encoding",
        "Content_Length",
        "H.ost",
        "te!",
    ] {
        let request = format!(
            "PUT /v1/a HTTP/1.1\r\nhost: a\r\n{name}: chunked\r\ncontent-length: 4\r\n\r\ndata"
        );
        exchange(&lab, request.as_bytes()).await;
        let got = within(got.recv()).await.unwrap();
        assert!(!got.contains("chunked"), "{got}");
        assert!(got.ends_with("\r\n\r\ndata"), "{got}");
    }
}
