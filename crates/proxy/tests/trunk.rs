//! Trunks through a middlebox that kills, refuses and stalls their lanes: what applications at
//! both ends notice of it.

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
    Lab, Node, assert_refused, assert_reset, backend, echo, eventually,
    middlebox::reset,
    path::{MIB, Path, Progress, bytes, exchange},
    ping, within,
};
use renkei_proxy::ProxyLimits;
use renkei_spiffe::{Identities, TrustDomain};
use renkei_testkit::{TestAuthority, free_address};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
};

const BOTH: &str = "osaka.example/collector, osaka.example/reader";

/// A process of its own, which can be ended at once.
struct Process(Option<Runtime>);

impl Process {
    async fn start(text: String, identities: Identities) -> (Self, Node) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let node = runtime.spawn(async move { Node::start(&text, identities).await });
        let node = node.await.unwrap();
        (Self(Some(runtime)), node)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_a_pair_share_one_lane() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (hokkaido, osaka) = path.sites().await;
    for n in 0..50 {
        ping(
            &mut path.lab.connect().await,
            format!("hello {n}").as_bytes(),
        )
        .await;
    }
    assert_eq!((path.middlebox.accepted(), path.middlebox.open()), (1, 1));
    eventually("all closed", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_lanes_are_killed_at_random() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (hokkaido, osaka) = path.sites().await;
    let got = Progress::default();
    let transfer = exchange(path.lab.connect().await, bytes(64 * MIB), got.clone());
    let transfer = tokio::spawn(transfer);
    let mut killed = 0;
    // Where handshakes take longer than the time between two kills, nothing would ever arrive.
    for next in (1..64).step_by(2) {
        got.reached(next * MIB).await;
        killed += usize::from(path.middlebox.kill_one());
    }
    transfer.await.unwrap();
    assert!(killed > 0);
    for node in [&hokkaido, &osaka] {
        let totals = node.proxy.status().await.totals;
        assert_eq!(totals[0].totals.connections, 1);
    }
    // One that is killed at its handshake is told of.
    let mut reasons = osaka.reasons();
    reasons.retain(|reason| *reason != "tls");
    assert_eq!(reasons, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_goes_on_where_it_was_when_the_path_comes_back() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let _sites = path.sites().await;
    let (sent, got) = (bytes(64 * MIB), Progress::default());
    let transfer = exchange(path.lab.connect().await, sent.clone(), got.clone());
    let transfer = tokio::spawn(transfer);
    got.reached(4 * MIB).await;
    path.middlebox.refuse(true);
    path.middlebox.kill_all();
    eventually("attempts to dial", || {
        (path.middlebox.refused() >= 5).then_some(())
    })
    .await;
    assert!(got.bytes() < sent.len());
    assert!(!transfer.is_finished());
    path.middlebox.refuse(false);
    transfer.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_grace_time_both_applications_are_reset() {
    let (address, mut connections) = backend().await;
    let path = Path::to(Lab::new(&[address])).await;
    let limits = ProxyLimits {
        grace: Duration::from_secs(1),
        ..ProxyLimits::default()
    };
    let (hokkaido, osaka) = (path.hokkaido(limits).await, path.osaka(limits).await);
    let mut app = path.lab.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    app.write_all(b"hello").await.unwrap();
    within(service.read_exact(&mut [0; 5])).await.unwrap();
    path.middlebox.refuse(true);
    path.middlebox.kill_all();
    assert_reset(&mut app).await;
    assert_reset(&mut service).await;
    eventually("no flows", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
    // Another trunk serves what comes later.
    path.middlebox.refuse(false);
    let _app = path.lab.connect().await;
    within(connections.recv()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_and_resets_keep_their_meaning() {
    let (address, mut connections) = backend().await;
    let path = Path::to(Lab::new(&[address])).await;
    let (hokkaido, osaka) = path.sites().await;
    // Each side ends first once; the other can still talk.
    for caller_first in [true, false] {
        let app = path.lab.connect().await;
        let service = within(connections.recv()).await.unwrap();
        let (mut first, mut second) = match caller_first {
            true => (app, service),
            false => (service, app),
        };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let mut heard = Vec::new();
        within(second.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, b"question");
        second.write_all(b"answer").await.unwrap();
        drop(second);
        heard.clear();
        within(first.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, b"answer");
    }
    for caller_resets in [true, false] {
        let app = path.lab.connect().await;
        let service = within(connections.recv()).await.unwrap();
        let (resets, mut other) = match caller_resets {
            true => (app, service),
            false => (service, app),
        };
        reset(resets);
        assert_reset(&mut other).await;
    }
    // Not a byte either way.
    let mut app = path.lab.connect().await;
    app.shutdown().await.unwrap();
    let mut service = within(connections.recv()).await.unwrap();
    assert_eq!(within(service.read(&mut [0])).await.unwrap(), 0);
    drop(service);
    assert_eq!(within(app.read(&mut [0])).await.unwrap(), 0);
    eventually("no flows", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
    assert_eq!(path.middlebox.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_rule_cuts_the_streams_of_its_caller_only() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let listen = free_address();
    let text = path.lab.hokkaido_text(BOTH);
    let hokkaido = Node::start(&text, path.lab.hokkaido_identities()).await;
    let osaka = path.osaka_with_reader(listen).await;
    let mut collector = path.lab.connect().await;
    ping(&mut collector, b"one").await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut reader = TcpStream::connect(listen).await.unwrap();
        ping(&mut reader, b"two").await;
        readers.push(reader);
    }
    let fewer = path.lab.hokkaido_text("osaka.example/collector");
    assert_eq!(hokkaido.apply(&fewer).await.unwrap().cut, 3);
    for mut reader in readers {
        assert_reset(&mut reader).await;
    }
    ping(&mut collector, b"still here").await;
    ping(&mut path.lab.connect().await, b"and new ones").await;

    // The reader's trunk is warm; what it asks for next is refused, and its own side knows why.
    assert_refused(listen).await;
    let what = "its policy does not allow this caller";
    let sentence = eventually("the refusal's reason", || {
        let refusals = osaka.proxy.refusals().last().into_iter();
        let mut denied = refusals.filter(|refusal| refusal.reason == "peer_denied");
        denied.find_map(|refusal| refusal.sentence.contains(what).then_some(refusal.sentence))
    })
    .await;
    assert_eq!(
        sentence,
        format!("hokkaido.example/broker refused osaka.example/reader: {what}")
    );
    let reason = hokkaido.refusal("not_allowed").await;
    assert!(reason.contains("osaka.example/reader"), "{reason}");
    assert_eq!(path.middlebox.accepted(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_nobody_reads_is_held_up_and_others_are_not() {
    let (address, mut connections) = backend().await;
    let path = Path::to(Lab::new(&[address])).await;
    let listen = free_address();
    let limits = ProxyLimits {
        memory: 4 * MIB as u64,
        ..ProxyLimits::default()
    };
    let (text, identities) = (path.lab.hokkaido_text(BOTH), path.lab.hokkaido_identities());
    let _hokkaido = Node::start_with(&text, identities, limits, None).await;
    let _osaka = path.osaka_with_reader(listen).await;
    let mut reader = TcpStream::connect(listen).await.unwrap();
    reader.write_all(b"one").await.unwrap();
    let mut service = within(connections.recv()).await.unwrap();
    within(service.read_exact(&mut [0; 3])).await.unwrap();
    // Nobody reads what the collector sends.
    let mut hog = path.lab.connect().await;
    let flood = vec![7; 16 * MIB];
    let flooding = tokio::spawn(async move {
        hog.write_all(&flood).await.unwrap();
    });
    let mut flooded = within(connections.recv()).await.unwrap();
    within(flooded.read_exact(&mut [0; 1000])).await.unwrap();
    reader.write_all(b"two").await.unwrap();
    within(service.read_exact(&mut [0; 3])).await.unwrap();
    // Once it is read, all of it comes.
    let mut block = vec![0; MIB];
    for _ in 0..15 {
        within(flooded.read_exact(&mut block)).await.unwrap();
    }
    within(flooding).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_bundle_cuts_the_streams_of_its_site_only() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (nagoya_ca, listen) = (TestAuthority::new("nagoya.example"), free_address());
    let text = path
        .lab
        .hokkaido_text("osaka.example/collector, nagoya.example/collector")
        .replace("peers: {", "peers: {nagoya.example: {bundle: n.json}, ");
    let trusts = [&path.lab.osaka_ca, &nagoya_ca];
    let identities = lab::identities(&path.lab.hokkaido_ca, &["/broker"], &trusts);
    let hokkaido = Node::start(&text, identities).await;
    let _osaka = path.osaka(ProxyLimits::default()).await;
    let text = path
        .osaka_text()
        .replace("osaka", "nagoya")
        .replace(&path.lab.listen.to_string(), &listen.to_string());
    let identities = lab::identities(&nagoya_ca, &["/collector"], &[&path.lab.hokkaido_ca]);
    let _nagoya = Node::start(&text, identities).await;
    let mut gone = path.lab.connect().await;
    let mut stays = TcpStream::connect(listen).await.unwrap();
    ping(&mut gone, b"one").await;
    ping(&mut stays, b"two").await;
    hokkaido.identities.send_modify(|all| {
        let bundles = &mut Arc::make_mut(all).bundles;
        Arc::make_mut(bundles).remove(&TrustDomain::parse("osaka.example").unwrap());
    });
    assert_reset(&mut gone).await;
    ping(&mut stays, b"still here").await;
    // The lane is still there; it leads nowhere any more.
    path.lab.assert_refused().await;
    hokkaido.refusal("unknown_trust_domain").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_gateway_resets_what_it_does_not_know_and_serves_the_rest() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let text = path.lab.hokkaido_text("osaka.example/collector");
    let first = Process::start(text.clone(), path.lab.hokkaido_identities()).await;
    let _osaka = path.osaka(ProxyLimits::default()).await;
    let mut old = path.lab.connect().await;
    ping(&mut old, b"hello").await;
    let gateway = path.lab.gateway;
    drop(first);
    eventually("gone", || {
        std::net::TcpStream::connect(gateway).is_err().then_some(())
    })
    .await;
    let _second = Process::start(text, path.lab.hokkaido_identities()).await;
    assert_reset(&mut old).await;
    ping(&mut path.lab.connect().await, b"new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_what_closed_applications_have_sent() {
    let (address, mut connections) = backend().await;
    let path = Path::to(Lab::new(&[address])).await;
    let _hokkaido = path.hokkaido(ProxyLimits::default()).await;
    let (process, osaka) = Process::start(path.osaka_text(), path.lab.osaka_identities()).await;
    let mut app = path.lab.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    path.middlebox.stall(true);
    let sent = bytes(2 * MIB);
    within(app.write_all(&sent)).await.unwrap();
    drop(app);
    osaka.drain.begin();
    let reading = tokio::spawn(async move {
        let mut heard = Vec::new();
        within(service.read_to_end(&mut heard)).await.map(|_| heard)
    });
    let release = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(osaka.open(), 1, "it still has bytes to deliver");
        path.middlebox.stall(false);
    };
    let (drained, ()) = tokio::join!(osaka.drain.wait(lab::DEADLINE), release);
    // The process ends as soon as it may.
    drop((osaka, process));
    assert_eq!(drained.left, 0);
    assert!(reading.await.unwrap().unwrap() == *sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_stalls_is_given_up_with_its_connection() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (_hokkaido, _osaka) = path.sites().await;
    let mut app = path.lab.connect().await;
    ping(&mut app, b"hello").await;
    path.middlebox.stall(true);
    exchange(app, bytes(32 * MIB), Progress::default()).await;
    // The connections that stalled, at which TCP still waits, are gone too.
    eventually("stalled ones closed", || {
        (path.middlebox.stalled() == 0).then_some(())
    })
    .await;
}
