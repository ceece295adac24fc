//! What takes its time: identities renewed again and again, quiet connections, thousands of short
//! ones, and two sites that call one another.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use lab::{
    Lab, Node, backend, echo, eventually,
    middlebox::reset,
    path::{MIB, Path, bytes, exchange},
    ping, within,
};
use renkei_testkit::{TestAuthority, free_address};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_take_each_new_svid_and_no_byte_is_lost() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (hokkaido, osaka) = path.sites().await;
    let mut app = path.lab.connect().await;
    ping(&mut app, b"the first lane has the first SVID").await;
    let stop = CancellationToken::new();
    let load = tokio::spawn(keep_talking(app, stop.clone()));
    let now = time::OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .unwrap();
    let mut until = now;
    // As many as there are in two minutes with one every five seconds.
    for n in 1..=24 {
        until = now + Duration::from_secs(600 + n);
        for (node, ca, name) in [
            (&osaka, &path.lab.osaka_ca, "/collector"),
            (&hokkaido, &path.lab.hokkaido_ca, "/broker"),
        ] {
            let renewed = lab::svid(ca.issue_between(name, now, until));
            node.identities.send_modify(|all| {
                let svids = &mut Arc::make_mut(all).svids;
                svids.insert(renewed.id().clone(), renewed);
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut app = path.lab.connect().await;
    ping(&mut app, b"new").await;
    let flows = osaka.proxy.status().await.flows;
    assert!(
        flows.iter().any(|flow| flow.svid_not_after == until),
        "{flows:?}"
    );
    stop.cancel();
    assert!(load.await.unwrap() > 24 * MIB);
    assert!(path.middlebox.accepted() > 24);
    eventually("old lanes closed", || {
        (path.middlebox.open() <= 1).then_some(())
    })
    .await;
    ping(&mut app, b"still here").await;
}

/// Numbers to an echo and back, until told to stop; says how many bytes.
async fn keep_talking(app: TcpStream, stop: CancellationToken) -> usize {
    const BLOCK: usize = 64 * 1024;
    let (mut read, mut write) = app.into_split();
    let sending = tokio::spawn(async move {
        let mut sent = 0;
        while !stop.is_cancelled() {
            write
                .write_all(&[(sent % 251) as u8; BLOCK])
                .await
                .expect("no reset");
            sent += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        sent
    });
    let (mut block, mut came) = (vec![0; BLOCK], 0);
    while within(read.read_exact(&mut block)).await.is_ok() {
        assert!(block == [(came % 251) as u8; BLOCK], "block {came}");
        came += 1;
    }
    assert_eq!(sending.await.unwrap(), came);
    came * BLOCK
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_short_connections_leave_nothing() {
    let path = Arc::new(Path::to(Lab::new(&[echo().await])).await);
    let (hokkaido, osaka) = path.sites().await;
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let path = path.clone();
        callers.spawn(async move {
            for n in 0..1250 {
                let mut app = path.lab.connect().await;
                match n % 3 {
                    0 => ping(&mut app, format!("{caller} {n}").as_bytes()).await,
                    1 => reset(app),
                    _ => drop(app),
                }
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    eventually("no flows", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
    // A trunk takes leave in a drain only once it has no streams.
    osaka.drain.begin();
    eventually("no lanes", || (path.middlebox.open() == 0).then_some(())).await;
    assert_eq!(osaka.drain.wait(Duration::from_secs(5)).await.left, 0);
}

/// How long a connection is idle here until the middlebox has forgotten it.
const IDLE: Duration = Duration::from_secs(1);

/// A path whose middlebox has forgotten the lanes under an open connection.
async fn forgotten(path: &Path) -> (TcpStream, Vec<Node>) {
    let (hokkaido, osaka) = path.sites().await;
    let app = path.lab.connect().await;
    path.middlebox.forget_after(IDLE);
    (app, vec![hokkaido, osaka])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_goes_on_within_seconds_after_a_middlebox_has_forgotten_it() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (mut app, nodes) = forgotten(&path).await;
    ping(&mut app, b"hello").await;
    tokio::time::sleep(2 * IDLE).await;
    let start = Instant::now();
    ping(&mut app, b"after a while").await;
    let took = start.elapsed();
    // 2 s until the silence is noticed, 5 s for a sign of life, and a new lane.
    assert!(took < Duration::from_secs(12), "{took:?}");
    assert_eq!(path.middlebox.accepted(), 2);
    for node in nodes {
        assert_eq!(node.proxy.status().await.totals[0].totals.connections, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connection_gets_through_when_a_middlebox_has_forgotten_the_trunk() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (mut app, _nodes) = forgotten(&path).await;
    ping(&mut app, b"hello").await;
    tokio::time::sleep(2 * IDLE).await;
    let start = Instant::now();
    ping(&mut path.lab.connect().await, b"and you").await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(12), "{took:?}");
    ping(&mut app, b"still here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_that_speaks_first_after_a_while_is_heard() {
    let (address, mut connections) = backend().await;
    let path = Path::to(Lab::new(&[address])).await;
    let (mut app, _nodes) = forgotten(&path).await;
    let mut service = within(connections.recv()).await.unwrap();
    app.write_all(b"hello").await.unwrap();
    within(service.read_exact(&mut [0; 5])).await.unwrap();
    tokio::time::sleep(2 * IDLE).await;
    // Only the caller's side can dial; it asks its lanes every 15 s whether they live.
    service.write_all(b"news").await.unwrap();
    let mut heard = [0; 4];
    within(app.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"news");
}

/// A site with a broker for the other site's collector, and a collector that uses the other's.
fn both(name: &str, gateway: SocketAddr, backend: SocketAddr, other: (&str, SocketAddr)) -> String {
    let (peer, theirs) = other;
    format!(
        "site: {name}\ntrust_domain: {name}.example\n\
         gateway: {{listen: '{gateway}', advertise: '{gateway}'}}\n\
         peers: {{{peer}.example: {{bundle: b.json, gateway: '{theirs}'}}}}\n\
         services:\n  broker: {{backends: ['{backend}'], allow: [{peer}.example/collector]}}\n"
    )
}

fn caller(listen: SocketAddr, peer: &str) -> String {
    let uid = rustix::process::geteuid().as_raw();
    format!(
        "workloads:\n  collector: {{selectors: ['unix:uid:{uid}'], \
         uses: {{{peer}.example/broker: '{listen}'}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sites_dial_one_another_at_once() {
    let names = ["hokkaido", "osaka"];
    let authorities = names.map(|name| TestAuthority::new(&format!("{name}.example")));
    let (gateways, listens) = (
        [free_address(), free_address()],
        [free_address(), free_address()],
    );
    let mut nodes = Vec::new();
    for (own, other) in [(0, 1), (1, 0)] {
        let peer = (names[other], gateways[other]);
        let text = both(names[own], gateways[own], echo().await, peer)
            + &caller(listens[own], names[other]);
        let identities = lab::identities(
            &authorities[own],
            &["/broker", "/collector"],
            &[&authorities[other]],
        );
        nodes.push(Node::start(&text, identities).await);
    }
    // Nobody has dialed anybody: the first connections of both sides meet on the way.
    let sent = bytes(2 * MIB);
    let mut exchanges = JoinSet::new();
    for n in 0..32 {
        let (listen, sent) = (listens[n % 2], sent.clone());
        exchanges.spawn(async move {
            let app = TcpStream::connect(listen).await.unwrap();
            exchange(app, sent, Arc::default()).await;
        });
    }
    while let Some(ended) = exchanges.join_next().await {
        ended.unwrap();
    }
    for node in &nodes {
        let totals = node.proxy.status().await.totals;
        let counts: Vec<_> = totals.iter().map(|one| one.totals.connections).collect();
        assert_eq!(counts, [16, 16], "as caller and as callee");
        assert_eq!(node.reasons(), Vec::<&str>::new());
    }
}
