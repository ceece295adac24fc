//! Requests that must be complete before they can be judged cost the callee's proxy a bounded amount
//! of memory, however many connections send them. A process of its own, because it is measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{sync::Arc, time::Duration};

use lab::{Lab, Node, path::MIB, within};
use renkei_spiffe::client_side;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const CONNECTIONS: usize = 40;
/// Of one topic; each request has two.
const RECORDS: usize = 7 * MIB;
/// What one caller may have, and what TLS, tasks and the allocator take.
const BOUND: usize = (32 + 64) * MIB;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// A Produce request of version 3 for two topics, one partition each.
fn produce() -> Vec<u8> {
    let mut body = vec![0, 0, 0, 3, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 1];
    body.extend(1000i32.to_be_bytes());
    body.extend(2i32.to_be_bytes());
    for topic in ["weather", "quakes"] {
        body.extend((topic.len() as i16).to_be_bytes());
        body.extend(topic.as_bytes());
        body.extend([0, 0, 0, 1, 0, 0, 0, 0]);
        body.extend((RECORDS as i32).to_be_bytes());
        body.resize(body.len() + RECORDS, 7);
    }
    let mut frame = (body.len() as i32).to_be_bytes().to_vec();
    frame.extend(body);
    frame
}

async fn connect(lab: &Lab) -> TlsStream<TcpStream> {
    let caller = lab::svid(lab.osaka_ca.issue("/collector"));
    let callee = Arc::new(lab::id("hokkaido.example/broker"));
    let trusts = Arc::new([lab::bundle(&lab.hokkaido_ca)].into_iter().collect());
    let side = client_side(&lab::provider(), &caller, trusts, callee, &[]).unwrap();
    let tcp = TcpStream::connect(lab.gateway).await.unwrap();
    let name = "broker.hokkaido.example".try_into().unwrap();
    let connector = TlsConnector::from(side.config.clone());
    connector.connect(name, tcp).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_held_cost_no_more_than_the_bound() {
    let (address, mut connections) = lab::backend().await;
    let lab = Lab::new(&[address]);
    let rights = "{osaka.example/collector: {produce: [weather, quakes]}}";
    let text = lab.hokkaido_text("osaka.example/collector").replace(
        "broker: {",
        &format!("broker: {{protocol: kafka, topics: {rights}, "),
    );
    let _hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
    let request = Arc::new(produce());
    let before = resident();
    let mut senders = JoinSet::new();
    let mut services = Vec::new();
    for number in 0..CONNECTIONS {
        let mut app = connect(&lab).await;
        services.push(within(connections.recv()).await.unwrap());
        let request = request.clone();
        senders.spawn(async move {
            // All but the last byte, or what is taken of it.
            let (mut sent, most) = (0, request.len() - 1);
            while sent < most {
                // Nothing taken for three seconds: it is held up.
                match timeout(Duration::from_secs(3), app.write(&request[sent..most])).await {
                    Ok(count) => sent += count.unwrap(),
                    Err(_) => break,
                }
            }
            (number, app, sent)
        });
    }
    let mut apps = senders.join_all().await;
    let grown = resident().saturating_sub(before);
    let taken: usize = apps.iter().map(|(_, _, sent)| sent).sum();
    assert!(
        grown < BOUND,
        "{} MiB for {} MiB taken from {CONNECTIONS} connections",
        grown / MIB,
        taken / MIB
    );
    // Whoever waits has its turn once the others are gone.
    apps.sort_by_key(|(_, _, sent)| *sent);
    let (number, mut app, sent) = apps.remove(0);
    assert!(sent < request.len() / 2, "nothing holds the senders up");
    drop(apps);
    let mut service = services.remove(number);
    let rest = request.clone();
    let sender = tokio::spawn(async move {
        app.write_all(&rest[sent..]).await.unwrap();
        app.flush().await.unwrap();
        app
    });
    let mut seen = vec![0; request.len()];
    within(service.read_exact(&mut seen)).await.unwrap();
    assert!(seen == *request, "it arrives as it was");
    within(sender).await.unwrap();
}
