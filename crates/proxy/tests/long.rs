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
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lab::{
    Lab, Node, backend, echo, eventually, lane,
    middlebox::reset,
    path::{MIB, Path, Progress, bytes, exchange},
    ping,
    time::{pass, settle},
    within,
};
use renkei_spiffe::X509Svid;
use renkei_testkit::{TestAuthority, free_address};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::{JoinHandle, JoinSet},
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

/// How many times the SVIDs of both sites are renewed under load.
const RENEWALS: usize = 24;
/// Shorter than all the renewals take.
const LIFE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_is_never_lost_while_svids_are_renewed_24_times_under_load() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (hokkaido, osaka) = path.sites().await;
    issue(&hokkaido, &path.lab.hokkaido_ca, "/broker");
    let first = issue(&osaka, &path.lab.osaka_ca, "/collector");
    let load = Load::start(path.lab.connect().await);
    load.flows(0).await;
    let emptied = path.middlebox.emptied();
    for n in 1..=RENEWALS {
        load.flows(n).await;
        renew(&path, &hokkaido, &osaka).await;
    }
    load.flows(RENEWALS + 1).await;
    load.end().await;
    assert_eq!(
        path.middlebox.emptied(),
        emptied,
        "an old lane stays until another has come"
    );
    assert!(path.middlebox.accepted() > RENEWALS);
    for node in [&hokkaido, &osaka] {
        assert_eq!(node.reasons(), Vec::<&str>::new());
    }
    // No lane can live on the SVIDs of the start.
    let left = first.not_after() - time::OffsetDateTime::now_utc();
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    let _refused = lane::dial(&path.lab, &first).await;
    hokkaido.refusal("expired").await;
}

/// Renews the SVIDs of both sites, and sees that every lane is made with the new ones.
async fn renew(path: &Path, hokkaido: &Node, osaka: &Node) {
    let broker = issue(hokkaido, &path.lab.hokkaido_ca, "/broker");
    let older = path.middlebox.accepted();
    let collector = issue(osaka, &path.lab.osaka_ca, "/collector");
    eventually("lanes younger than the SVIDs, and no others", || {
        let oldest = path.middlebox.oldest()?;
        (oldest >= older).then_some(())
    })
    .await;
    // What the gateway answers such a lane with, and what its dialer has shown.
    let lane = lane::dial(&path.lab, &collector).await;
    let shown = lane.get_ref().1.peer_certificates().unwrap();
    assert_eq!(shown[0], broker.chain()[0]);
    let mut app = path.lab.connect().await;
    ping(&mut app, b"new").await;
    let flows = osaka.proxy.status().await.flows;
    let newest = flows.iter().map(|flow| flow.svid_not_after).max();
    assert_eq!(newest, Some(collector.not_after()), "{flows:?}");
}

/// A site's workload or service gets a new SVID.
fn issue(node: &Node, ca: &TestAuthority, name: &str) -> Arc<X509Svid> {
    let now = time::OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap();
    let svid = lab::svid(ca.issue_between(name, now, now + LIFE));
    node.identities.send_modify(|all| {
        let svids = &mut Arc::make_mut(all).svids;
        svids.insert(svid.id().clone(), svid.clone());
    });
    svid
}

/// Bytes of a numbered block.
const BLOCK: usize = 32 * 1024;

/// One connection that numbered blocks go over to an echo and back, one every 10 ms.
struct Load {
    stop: CancellationToken,
    came: Arc<AtomicUsize>,
    writer: JoinHandle<usize>,
    reader: JoinHandle<()>,
}

impl Load {
    fn start(app: TcpStream) -> Self {
        let (stop, came) = (CancellationToken::new(), Arc::default());
        let (read, write) = app.into_split();
        Self {
            writer: tokio::spawn(send_blocks(write, stop.clone())),
            reader: tokio::spawn(compare_blocks(read, Arc::clone(&came))),
            stop,
            came,
        }
    }

    /// Blocks that are back, every byte as it was sent.
    fn came(&self) -> usize {
        self.came.load(Ordering::Relaxed)
    }

    /// Waits until a MiB more is back.
    async fn flows(&self, renewal: usize) {
        let before = self.came();
        eventually(&format!("bytes before renewal {renewal}"), || {
            let blocks = self.came() - before;
            (blocks * BLOCK > MIB).then_some(())
        })
        .await;
    }

    /// Ends it cleanly, when all blocks have come back.
    async fn end(self) {
        self.stop.cancel();
        let sent = self.writer.await.unwrap();
        self.reader.await.unwrap();
        assert_eq!(self.came.load(Ordering::Relaxed), sent);
    }
}

/// Blocks that differ in their first bytes; of the others none is like another.
fn block(number: usize, rest: &[u8]) -> Vec<u8> {
    [&(number as u64).to_be_bytes(), rest].concat()
}

/// Says how many it has sent.
async fn send_blocks(mut write: OwnedWriteHalf, stop: CancellationToken) -> usize {
    let rest = bytes(BLOCK - 8);
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sent = 0;
    while !stop.is_cancelled() {
        pace.tick().await;
        write
            .write_all(&block(sent, &rest))
            .await
            .expect("no reset");
        sent += 1;
    }
    write.shutdown().await.expect("no reset");
    sent
}

async fn compare_blocks(mut read: OwnedReadHalf, came: Arc<AtomicUsize>) {
    let rest = bytes(BLOCK - 8);
    let mut found = Vec::with_capacity(BLOCK);
    loop {
        found.clear();
        let mut next = (&mut read).take(BLOCK as u64);
        within(next.read_to_end(&mut found))
            .await
            .expect("no reset");
        if found.is_empty() {
            return;
        }
        let number = came.load(Ordering::Relaxed);
        assert!(found == block(number, &rest), "block {number} is another");
        came.store(number + 1, Ordering::Relaxed);
    }
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
    assert_eq!(osaka.drain.wait(lab::DEADLINE).await.left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_goes_on_after_a_middlebox_has_forgotten_it() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (hokkaido, osaka) = path.sites().await;
    let mut app = path.lab.connect().await;
    ping(&mut app, b"hello").await;
    path.middlebox.forget();
    // 2 s until the silence is noticed, 5 s for a sign of life, and a new lane.
    ping(&mut app, b"after a while").await;
    assert!(path.middlebox.accepted() > 1);
    for node in [hokkaido, osaka] {
        assert_eq!(node.proxy.status().await.totals[0].totals.connections, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_connection_gets_through_when_a_middlebox_has_forgotten_the_trunk() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let _sites = path.sites().await;
    let mut app = path.lab.connect().await;
    ping(&mut app, b"hello").await;
    path.middlebox.forget();
    ping(&mut path.lab.connect().await, b"and you").await;
    ping(&mut app, b"still here").await;
}

#[tokio::test]
async fn a_callee_that_speaks_first_after_a_while_is_heard() {
    let (address, mut connections) = backend().await;
    let path = Path::to(Lab::new(&[address])).await;
    let _sites = path.sites().await;
    let mut app = path.lab.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    app.write_all(b"hello").await.unwrap();
    within(service.read_exact(&mut [0; 5])).await.unwrap();
    path.middlebox.forget();
    service.write_all(b"news").await.unwrap();
    settle().await;
    // Only the caller's side can dial; it asks its lanes every 15 s whether they live.
    pass(Duration::from_secs(15)).await;
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
            exchange(app, sent, Progress::default()).await;
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
