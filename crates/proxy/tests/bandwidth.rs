//! Limits on what connections carry in a second. Times are lower bounds alone: what a limit must
//! not let pass in less.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::time::{Duration, Instant};

use lab::{Lab, Node, echo, ping, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What one connection sends and gets back in these tests, and how long that takes at least with
/// a limit of [`LIMIT`]: one sixteenth less, for the limit forgives late timers 50 ms.
const BYTES: usize = 500_000;
const LIMIT: &str = "4 Mbit/s";
const LEAST: Duration = Duration::from_millis(930);

/// Sends so many bytes through the echo and reads them back; says how long that took.
async fn echoed(mut app: TcpStream, bytes: usize) -> Duration {
    let start = Instant::now();
    let (mut read, mut write) = app.split();
    let sent = async {
        write.write_all(&vec![7; bytes]).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut back = Vec::new();
    let received = read.read_to_end(&mut back);
    let (_, received) = within(async { tokio::join!(sent, received) }).await;
    received.unwrap();
    assert_eq!(back.len(), bytes);
    start.elapsed()
}

fn limited(text: String, place: &str, key: &str) -> String {
    match place {
        "gateway" => text.replace("advertise:", &format!("{key}: {LIMIT}, advertise:")),
        _ => text.replace("allow:", &format!("{key}: {LIMIT}, allow:")),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_limit_of_the_site_file_holds_a_connection_back() {
    for (place, key) in [
        ("gateway", "bandwidth"),
        ("service", "bandwidth"),
        ("service", "caller_bandwidth"),
    ] {
        let lab = Lab::new(&[echo().await]);
        let text = lab.hokkaido_text("osaka.example/collector");
        let text = limited(text, place, key);
        let _hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
        let _osaka = lab.osaka().await;
        let took = echoed(lab.connect().await, BYTES).await;
        assert!(took >= LEAST, "{place}: {key}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_caller_share_its_limit() {
    let lab = Lab::new(&[echo().await]);
    let text = lab.hokkaido_text("osaka.example/collector");
    let text = limited(text, "service", "caller_bandwidth");
    let _hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
    let _osaka = lab.osaka().await;
    let start = Instant::now();
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(tokio::spawn(echoed(lab.connect().await, BYTES / 5)));
    }
    for one in all {
        one.await.unwrap();
    }
    assert!(start.elapsed() >= LEAST, "{:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_comes_and_goes_while_a_connection_is_open() {
    let lab = Lab::new(&[echo().await]);
    let free = lab.hokkaido_text("osaka.example/collector");
    let hokkaido = Node::start(&free, lab.hokkaido_identities()).await;
    let _osaka = lab.osaka().await;
    let mut app = lab.connect().await;
    ping(&mut app, b"before").await;
    let tight = limited(free.clone(), "gateway", "bandwidth");
    let applied = hokkaido.apply(&tight).await.unwrap();
    assert_eq!(applied.cut, 0);
    assert!(echoed(app, BYTES).await >= LEAST);
    hokkaido.apply(&free).await.unwrap();
    // Far more than a limit that is still there would let pass before the test gives up.
    echoed(lab.connect().await, 80 * BYTES).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_http_keep_the_limit_too() {
    let lab = Lab::new(&[http_backend().await]);
    let text = lab.hokkaido_text("osaka.example/collector");
    let text = limited(text, "service", "bandwidth").replace("allow:", "protocol: http, allow:");
    let _hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
    let _osaka = lab.osaka().await;
    let start = Instant::now();
    let mut app = lab.connect().await;
    let request = "GET / HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n";
    app.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(app.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.len() > BYTES, "{}", answer.len());
    assert!(start.elapsed() >= LEAST, "{:?}", start.elapsed());
}

/// Answers every connection with one response of [`BYTES`].
async fn http_backend() -> std::net::SocketAddr {
    let (address, mut connections) = lab::backend().await;
    tokio::spawn(async move {
        while let Some(mut stream) = connections.recv().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BYTES}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&vec![b'x'; BYTES]).await;
            let _ = stream.read(&mut [0]).await;
        }
    });
    address
}
