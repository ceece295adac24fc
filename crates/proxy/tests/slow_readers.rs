//! Connections whose readers are slow or stand still, in one trunk with others.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{sync::Arc, time::Duration};

use lab::{
    Lab, Node, backend,
    path::{MIB, Path},
    within,
};
use renkei_proxy::ProxyLimits;
use renkei_testkit::free_address;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Notify, mpsc::Receiver},
    task::JoinSet,
};

/// Writes without end. Ready when the other end has taken nothing for a second; then it goes on
/// writing as long as what it gives is held.
async fn flood(mut stream: TcpStream) -> JoinSet<()> {
    let stopped = Arc::new(Notify::new());
    let mut writing = JoinSet::new();
    writing.spawn({
        let stopped = stopped.clone();
        async move {
            let (block, quiet) = (vec![7; MIB], Duration::from_secs(1));
            loop {
                match tokio::time::timeout(quiet, stream.write(&block)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return stopped.notify_one(),
                    Err(_) => stopped.notify_one(),
                }
            }
        }
    });
    stopped.notified().await;
    writing
}

/// A small request and its answer.
async fn get(mut app: TcpStream, connections: &mut Receiver<TcpStream>) {
    let mut service = within(connections.recv()).await.unwrap();
    app.write_all(&[1; 200]).await.unwrap();
    within(service.read_exact(&mut [0; 200])).await.unwrap();
    service.write_all(&[2; 200_000]).await.unwrap();
    within(app.read_exact(&mut vec![0; 200_000])).await.unwrap();
}

/// Streams that nobody reads, whose bytes come from the callee's side or from the caller's.
async fn stopped(
    lab: &Lab,
    connections: &mut Receiver<TcpStream>,
    count: usize,
    downloads: bool,
) -> Vec<(JoinSet<()>, TcpStream)> {
    let mut floods = Vec::new();
    for _ in 0..count {
        let app = lab.connect().await;
        let service = within(connections.recv()).await.unwrap();
        let (writer, reader) = match downloads {
            true => (service, app),
            false => (app, service),
        };
        floods.push((tokio::spawn(flood(writer)), reader));
    }
    let mut all = Vec::new();
    for (writer, reader) in floods {
        all.push((writer.await.unwrap(), reader));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_request_passes_stopped_downloads_and_uploads() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = (lab.hokkaido().await, lab.osaka().await);
    let mut all = stopped(&lab, &mut connections, 40, true).await;
    get(lab.connect().await, &mut connections).await;
    all.extend(stopped(&lab, &mut connections, 40, false).await);
    get(lab.connect().await, &mut connections).await;
    // Whoever reads again gets on.
    let (_writer, mut reader) = all.swap_remove(0);
    let mut read = 0;
    while read < 8 * MIB {
        read += within(reader.read(&mut vec![0; MIB])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_fills_the_process_holds_nobody_else_up() {
    let (address, mut connections) = backend().await;
    let path = Path::to(Lab::new(&[address])).await;
    let listen = free_address();
    let limits = ProxyLimits {
        memory: 16 * MIB as u64,
        ..ProxyLimits::default()
    };
    let text = path
        .lab
        .hokkaido_text("osaka.example/collector, osaka.example/reader");
    let identities = path.lab.hokkaido_identities();
    let hokkaido = Node::start_with(&text, identities, limits, None).await;
    let _osaka = path.osaka_with_reader(listen).await;
    let mut hogs = stopped(&path.lab, &mut connections, 60, false).await;
    get(TcpStream::connect(listen).await.unwrap(), &mut connections).await;
    get(path.lab.connect().await, &mut connections).await;
    assert_eq!(hokkaido.reasons(), Vec::<&str>::new());
    for (_writer, reader) in &mut hogs {
        let count = within(reader.read(&mut [0; 1000])).await.unwrap();
        assert!(count > 0, "it was cut");
    }
}
