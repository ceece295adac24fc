//! Requests and responses as bytes.

use tokio::sync::mpsc;

use super::*;

pub(crate) const ANY: &str = "methods: {osaka.example/collector: ['*']}";
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// The start of a head.
pub(crate) const ASK: &str = "GET /v1/a HTTP/1.1\r\nhost: a\r\n";

/// A backend that gives every request the same answer; what it got comes out as it came: the head,
/// and the body with its framing.
pub(crate) async fn scripted(
    answer: &'static [&'static str],
) -> (SocketAddr, mpsc::Receiver<String>) {
    let (address, mut accepted) = backend().await;
    let (got, requests) = mpsc::channel(64);
    tokio::spawn(async move {
        while let Some(mut stream) = accepted.recv().await {
            let got = got.clone();
            tokio::spawn(async move {
                while let Some(request) = request_of(&mut stream).await {
                    if got.send(request).await.is_err() {
                        return;
                    }
                    for part in answer {
                        if stream.write_all(part.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (address, requests)
}

/// The next request with its body, if it is whole.
async fn request_of(stream: &mut TcpStream) -> Option<String> {
    let mut all = Vec::new();
    while !all.ends_with(b"\r\n\r\n") {
        all.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(all.clone()).unwrap();
    let length = head.lines().find_map(|line| {
        let length = line.strip_prefix("content-length: ")?;
        length.parse::<usize>().ok()
    });
    let start = all.len();
    if head.contains("\r\ntransfer-encoding: ") {
        while !ends_chunked(all.get(start - 2..).unwrap()) {
            all.push(stream.read_u8().await.ok()?);
        }
    } else if let Some(length) = length {
        all.resize(start + length, 0);
        stream
            .read_exact(all.get_mut(start..).unwrap())
            .await
            .ok()?;
    }
    Some(String::from_utf8(all).unwrap())
}

/// Whether this is a whole chunked body, with the end of the line before it.
fn ends_chunked(body: &[u8]) -> bool {
    body.ends_with(b"\r\n\r\n") && body.windows(5).any(|part| part == b"\r\n0\r\n")
}

/// Sends this over a new connection, and gives all that comes back up to its end.
pub(crate) async fn exchange(lab: &Lab, bytes: &[u8]) -> String {
    let mut stream = lab.connect().await;
    // The other end may have had enough of it.
    let _ = within(stream.write_all(bytes)).await;
    let _ = stream.shutdown().await;
    let mut all = Vec::new();
    let _ = within(stream.read_to_end(&mut all)).await;
    String::from_utf8(all).unwrap()
}

/// What becomes of the response of a backend, and what is counted.
pub(crate) async fn answered_with(response: &str) -> (String, Vec<&'static str>) {
    let response: &'static str = response.to_owned().leak();
    let (address, _got) = scripted(vec![response].leak()).await;
    let lab = Lab::new(&[address]);
    let (hokkaido, _osaka) = sites(&lab, ANY).await;
    let answer = exchange(&lab, format!("{ASK}\r\n").as_bytes()).await;
    (answer, hokkaido.reasons())
}

/// So many header fields.
pub(crate) fn fields(count: usize) -> String {
    (0..count).map(|n| format!("x-{n}: 1\r\n")).collect()
}
