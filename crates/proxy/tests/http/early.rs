//! Backends that answer before they have read the request, and callers that send on regardless.

use tokio::io::AsyncBufReadExt;

use super::*;

/// More than all buffers on the way hold.
const UPLOAD: usize = 8 << 20;
const TOO_LARGE: &str =
    "HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nbig";
const UNAUTHORIZED: &str = "HTTP/1.0 401 Unauthorized\r\ncontent-length: 4\r\n\r\nwho?";

/// A backend that reads the head of a request, answers, and closes with the rest unread.
async fn hasty(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                head(&mut stream).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    });
    address
}

/// Sends a whole request, however its answer is on its way already; then reads the answer.
async fn upload(mut stream: Box<dyn Stream>, framing: &str, body: &[u8]) -> String {
    let head = format!("PUT /v1/echo HTTP/1.1\r\nhost: a\r\n{framing}\r\n");
    let sent = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        stream.flush().await
    };
    // The other end may have had enough of it.
    let _ = within(sent).await;
    let mut all = Vec::new();
    let _ = within(stream.read_to_end(&mut all)).await;
    String::from_utf8(all).unwrap()
}

fn chunked(bytes: usize) -> Vec<u8> {
    let chunk = [b"10000\r\n".as_slice(), &[b'y'; 0x10000], b"\r\n"].concat();
    let mut body = chunk.repeat(bytes / 0x10000);
    body.extend_from_slice(b"0\r\n\r\n");
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_a_request_that_is_not_read_arrives() {
    let sized = (format!("content-length: {UPLOAD}\r\n"), vec![b'y'; UPLOAD]);
    let chunked = ("transfer-encoding: chunked\r\n".to_owned(), chunked(UPLOAD));
    for answer in [TOO_LARGE, UNAUTHORIZED] {
        let lab = Lab::new(&[hasty(answer).await]);
        let (hokkaido, _osaka) = sites(&lab, RULES).await;
        let (status, body) = (
            answer.get(8..13).unwrap(),
            answer.rsplit("\r\n").next().unwrap(),
        );
        for (framing, upload_of) in [&sized, &chunked] {
            for expects in ["", "expect: 100-continue\r\n"] {
                for _ in 0..4 {
                    for (kind, stream) in both(&lab).await {
                        let framing = format!("{framing}{expects}");
                        let got = upload(stream, &framing, upload_of).await;
                        let got = got.trim_start_matches("HTTP/1.1 100 Continue\r\n\r\n");
                        assert!(got.starts_with("HTTP/1.1"), "{kind} {framing}: {got}");
                        assert_eq!(got.get(8..13), Some(status), "{kind} {framing}");
                        assert!(got.contains(body), "{kind} {framing}: {got}");
                    }
                }
            }
        }
        assert!(hokkaido.reasons().is_empty(), "{:?}", hokkaido.reasons());
        eventually("the sessions end", || (hokkaido.open() == 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_arrives_while_its_request_is_sent() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, RULES).await;
    for (kind, mut stream) in both(&lab).await {
        let ask = "PUT /v1/echo HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\nhalf";
        stream.write_all(ask.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut socket = within(accepted.recv()).await.unwrap();
        head(&mut socket).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        socket.write_all(answer).await.unwrap();
        let (_, body) = response(&mut stream).await;
        assert_eq!(body, "ok", "{kind}");
        // The rest of the request still goes where it belongs, and the connection can be used again.
        stream.write_all(b"half").await.unwrap();
        let next = "GET /v1/a HTTP/1.1\r\nhost: a\r\n\r\n";
        stream.write_all(next.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut upload = [0; 8];
        within(socket.read_exact(&mut upload)).await.unwrap();
        assert_eq!(&upload, b"halfhalf", "{kind}");
        assert!(head(&mut socket).await.starts_with("GET /v1/a "), "{kind}");
        socket.write_all(answer).await.unwrap();
        let (_, body) = response(&mut stream).await;
        assert_eq!(body, "ok", "{kind}");
    }
}

/// A response that ends with its connection, which is reset: never a whole one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_answer_that_is_cut_short_does_not_look_whole() {
    let (address, mut accepted) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = sites(&lab, RULES).await;
    for (kind, mut stream) in both(&lab).await {
        let ask = format!("PUT /v1/echo HTTP/1.1\r\nhost: a\r\ncontent-length: {UPLOAD}\r\n\r\n");
        stream.write_all(ask.as_bytes()).await.unwrap();
        stream.write_all(&[b'y'; 100_000]).await.unwrap();
        stream.flush().await.unwrap();
        let mut socket = within(accepted.recv()).await.unwrap();
        head(&mut socket).await;
        socket
            .write_all(b"HTTP/1.0 200 OK\r\n\r\nhal")
            .await
            .unwrap();
        let told = head(&mut stream).await;
        assert!(told.starts_with("HTTP/1.1 200 "), "{kind}: {told}");
        lab::middlebox::reset(socket);
        let mut rest = Vec::new();
        let ended = within(stream.read_to_end(&mut rest)).await;
        let rest = String::from_utf8_lossy(&rest);
        assert!(
            ended.is_err() && !rest.ends_with("0\r\n\r\n"),
            "{kind}: {rest}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_in_the_middle_of_an_upload_reads_why() {
    let (backend, asked) = records().await;
    let lab = Lab::new(&[backend]);
    let _sites = sites(&lab, "methods: {osaka.example/collector: [GET]}").await;
    for _ in 0..4 {
        for (kind, stream) in both(&lab).await {
            let framing = format!("content-length: {UPLOAD}\r\n");
            let got = upload(stream, &framing, &vec![b'y'; UPLOAD]).await;
            assert!(got.starts_with("HTTP/1.1 403 "), "{kind}: {got}");
        }
        // A head that is no request, with much behind it.
        for (kind, mut stream) in both(&lab).await {
            let sent = async {
                stream.write_all(b"no request\r\n\r\n").await?;
                stream.write_all(&vec![b'y'; UPLOAD]).await?;
                stream.flush().await
            };
            let _ = within(sent).await;
            let mut line = String::new();
            let mut lines = tokio::io::BufReader::new(&mut stream);
            within(lines.read_line(&mut line)).await.unwrap();
            assert!(line.starts_with("HTTP/1.1 400 "), "{kind}: {line}");
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
