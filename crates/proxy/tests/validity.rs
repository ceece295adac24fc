//! Trunks and sessions that are open while SVIDs end, are renewed or withdrawn, and authorities
//! leave bundles: what was checked at the handshake must hold as long as it is used.

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
    Lab, Node, assert_refused, assert_reset, echo, eventually, id,
    lane::{self, DATA, HELLO, OPEN, OPEN_OK, VERSION},
    path::Path,
    ping,
    renewal::{BRIEF, brief, forget, give, know, take, trust},
    svid,
    time::{TimeOfDay, pass},
    within,
};
use renkei_proxy::ProxyLimits;
use renkei_spiffe::{BundleSet, X509Svid, client_side};
use renkei_testkit::{TestAuthority, free_address};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Opens a stream of Osaka's trunk by hand, with so many bytes in it.
fn opening(stream: u64) -> Vec<u8> {
    let open = lane::frame(OPEN, &stream.to_be_bytes());
    let mut data = stream.to_be_bytes().to_vec();
    data.extend(0_u64.to_be_bytes());
    data.extend(b"hello");
    [open, lane::frame(DATA, &data)].concat()
}

/// A lane with that SVID which has been answered.
async fn greeted(lab: &Lab, caller: &X509Svid) -> TlsStream<TcpStream> {
    let mut lane = lane::dial(lab, caller).await;
    let hello = lane::hello(VERSION, *b"a trunk by hand.", [0; 8], 0);
    lane.write_all(&hello).await.unwrap();
    assert_eq!(lane::next(&mut lane).await.unwrap().0, HELLO);
    lane
}

/// The gateway takes a stream.
async fn taken(lane: &mut TlsStream<TcpStream>, stream: u64) {
    lane.write_all(&opening(stream)).await.unwrap();
    while lane::next(lane).await.expect("the lane lives").0 != OPEN_OK {}
}

/// Whatever the lane says, the gateway takes no stream, and ends the lane.
async fn cut(lane: &mut TlsStream<TcpStream>, stream: u64) {
    let _ = lane.write_all(&opening(stream)).await;
    while let Ok((kind, _)) = lane::next(lane).await {
        assert_ne!(kind, OPEN_OK, "a stream was taken");
    }
}

#[tokio::test]
async fn a_gateway_ends_the_lanes_of_an_svid_with_it() {
    let time = TimeOfDay::hold().await;
    let lab = Lab::new(&[echo().await]);
    let hokkaido = lab.hokkaido().await;
    let caller = brief(&lab.osaka_ca, "/collector");
    let mut lane = greeted(&lab, &caller).await;
    taken(&mut lane, 0).await;
    time.end(&caller).await;
    cut(&mut lane, 2).await;
    eventually("no flow", || (hokkaido.open() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_ends_the_lanes_of_a_ca_that_leaves_the_bundle_and_no_others() {
    let lab = Lab::new(&[echo().await]);
    let next = TestAuthority::new("osaka.example");
    let hokkaido = lab.hokkaido().await;
    trust(&hokkaido, "osaka.example", &[&lab.osaka_ca, &next]);
    let mut old = greeted(&lab, &svid(lab.osaka_ca.issue("/collector"))).await;
    let _osaka = lab.osaka_with(&next).await;
    let mut stays = lab.connect().await;
    taken(&mut old, 0).await;
    ping(&mut stays, b"by the next CA").await;
    trust(&hokkaido, "osaka.example", &[&next]);
    cut(&mut old, 2).await;
    ping(&mut stays, b"still here").await;
    ping(&mut lab.connect().await, b"and new ones").await;
    let reasons = hokkaido.reasons();
    assert!(
        reasons.iter().all(|reason| *reason == "untrusted_ca"),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn a_caller_whose_renewals_fail_is_stopped_at_home() {
    let time = TimeOfDay::hold().await;
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let last = brief(&lab.osaka_ca, "/collector");
    give(&osaka, &last);
    let mut app = lab.connect().await;
    ping(&mut app, b"hello").await;
    time.end(&last).await;
    lab.assert_refused().await;
    let sentence = osaka.refusal("own_svid_expired").await;
    assert!(sentence.contains("was not renewed"), "{sentence}");
    assert_reset(&mut app).await;
    eventually("not ready", || (!osaka.readiness.is_ready()).then_some(())).await;
    eventually("no flow", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
    // With a new one it goes on.
    give(&osaka, &svid(lab.osaka_ca.issue("/collector")));
    ping(&mut lab.connect().await, b"renewed").await;
}

#[tokio::test]
async fn a_callee_whose_renewals_fail_is_stopped_at_home_and_by_its_callers() {
    let time = TimeOfDay::hold().await;
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let last = brief(&lab.hokkaido_ca, "/broker");
    give(&hokkaido, &last);
    let mut app = lab.connect().await;
    ping(&mut app, b"hello").await;
    time.end(&last).await;
    lab.assert_refused().await;
    assert_reset(&mut app).await;
    hokkaido.refusal("own_svid_expired").await;
    let sentence = osaka.refusal("peer_no_identity").await;
    assert_eq!(
        sentence,
        "hokkaido.example/broker has no valid identity at this time; the log of \
         hokkaido.example says why"
    );
    eventually("no flow", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
    give(&hokkaido, &svid(lab.hokkaido_ca.issue("/broker")));
    ping(&mut lab.connect().await, b"renewed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_identity_is_used_no_more_and_others_are() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let listen = free_address();
    let text = path
        .lab
        .hokkaido_text("osaka.example/collector, osaka.example/reader");
    let hokkaido = Node::start(&text, path.lab.hokkaido_identities()).await;
    let osaka = path.osaka_with_reader(listen).await;
    let mut collector = path.lab.connect().await;
    let mut reader = TcpStream::connect(listen).await.unwrap();
    ping(&mut collector, b"one").await;
    ping(&mut reader, b"two").await;
    take(&osaka, &id("osaka.example/collector"));
    assert_reset(&mut collector).await;
    path.lab.assert_refused().await;
    osaka.refusal("no_identity").await;
    ping(&mut reader, b"still here").await;
    ping(&mut TcpStream::connect(listen).await.unwrap(), b"new").await;
    // And the callee's: nobody is let in as it.
    take(&hokkaido, &id("hokkaido.example/broker"));
    assert_reset(&mut reader).await;
    assert_refused(listen).await;
    hokkaido.refusal("no_identity").await;
}

#[tokio::test]
async fn a_connection_outlives_the_svids_of_both_ends() {
    let time = TimeOfDay::hold().await;
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (hokkaido, osaka) = path.sites().await;
    let first = brief(&path.lab.osaka_ca, "/collector");
    give(&hokkaido, &brief(&path.lab.hokkaido_ca, "/broker"));
    give(&osaka, &first);
    let mut app = path.lab.connect().await;
    for _ in 0..5 {
        ping(&mut app, b"a part of a long transfer").await;
        // At half of the life, as an agent does.
        time.pass(BRIEF / 2).await;
        let older = path.middlebox.accepted();
        give(&hokkaido, &brief(&path.lab.hokkaido_ca, "/broker"));
        give(&osaka, &brief(&path.lab.osaka_ca, "/collector"));
        younger(&path, older).await;
    }
    assert!(first.not_after() < renkei_runtime::clock::now());
    ping(&mut app, b"the rest").await;
}

/// Waits until there are only lanes that were dialled after these.
async fn younger(path: &Path, older: usize) {
    eventually("younger lanes, and no others", || {
        let oldest = path.middlebox.oldest()?;
        (oldest >= older).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_rotation_at_the_callee_moves_connections_to_new_lanes() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let (hokkaido, osaka) = path.sites().await;
    let (lab, next) = (&path.lab, TestAuthority::new("hokkaido.example"));
    let mut app = lab.connect().await;
    ping(&mut app, b"by the old CA").await;
    let older = path.middlebox.accepted();
    trust(&osaka, "hokkaido.example", &[&lab.hokkaido_ca, &next]);
    give(&hokkaido, &svid(next.issue("/broker")));
    // The lanes were made with the old SVID, and the caller cannot know that there is a new one.
    trust(&osaka, "hokkaido.example", &[&next]);
    younger(&path, older).await;
    ping(&mut app, b"by the next CA").await;
    assert_eq!(osaka.reasons(), Vec::<&str>::new());
    // With nothing better at the callee, they end. Not the first CA again: an old lane that has
    // not been cut yet would be good again.
    let other = TestAuthority::new("hokkaido.example");
    trust(&osaka, "hokkaido.example", &[&other]);
    assert_reset(&mut app).await;
    lab.assert_refused().await;
    osaka.refusal("untrusted_ca").await;
}

/// A peer of another make: TLS, and then bytes.
async fn session(lab: &Lab, caller: &X509Svid) -> TlsStream<TcpStream> {
    let mut trusts = BundleSet::default();
    know(&mut trusts, "hokkaido.example", &[&lab.hokkaido_ca]);
    let callee = Arc::new(id("hokkaido.example/broker"));
    let side = client_side(&lab::provider(), caller, Arc::new(trusts), callee, &[]).unwrap();
    let tcp = TcpStream::connect(lab.gateway).await.unwrap();
    let name = ServerName::try_from("broker.hokkaido.example").unwrap();
    let connector = TlsConnector::from(side.config);
    let mut tls = within(connector.connect(name, tcp)).await.unwrap();
    echoed(&mut tls).await;
    tls
}

async fn echoed(tls: &mut TlsStream<TcpStream>) {
    tls.write_all(b"hello").await.unwrap();
    within(tls.read_exact(&mut [0; 5])).await.unwrap();
}

/// The connection ends, and not cleanly.
async fn broken(tls: &mut TlsStream<TcpStream>) {
    within(tls.read_exact(&mut [0; 1])).await.unwrap_err();
}

#[tokio::test]
async fn sessions_outside_of_trunks_end_with_their_svids_and_cas_too() {
    let time = TimeOfDay::hold().await;
    let lab = Lab::new(&[echo().await]);
    let hokkaido = lab.hokkaido().await;
    let next = TestAuthority::new("osaka.example");
    trust(&hokkaido, "osaka.example", &[&lab.osaka_ca, &next]);
    let brief = brief(&lab.osaka_ca, "/collector");
    let mut ends = session(&lab, &brief).await;
    let mut old = session(&lab, &svid(lab.osaka_ca.issue("/collector"))).await;
    let mut new = session(&lab, &svid(next.issue("/collector"))).await;
    time.end(&brief).await;
    broken(&mut ends).await;
    echoed(&mut old).await;
    trust(&hokkaido, "osaka.example", &[&next]);
    broken(&mut old).await;
    echoed(&mut new).await;
    take(&hokkaido, &id("hokkaido.example/broker"));
    broken(&mut new).await;
}

#[tokio::test]
async fn sessions_with_callees_of_another_make_end_with_their_svids_too() {
    let time = TimeOfDay::hold().await;
    let lab = Lab::new(&[]);
    let callee = brief(&lab.hokkaido_ca, "/broker");
    let mut sessions = lane::gateway_as(&lab, &callee, &[b"renkei-tcp/1"]).await;
    let osaka = lab.osaka().await;
    let mut app = lab.connect().await;
    app.write_all(b"hello").await.unwrap();
    let mut peer = within(sessions.recv()).await.unwrap();
    within(peer.read_exact(&mut [0; 5])).await.unwrap();
    time.end(&callee).await;
    assert_reset(&mut app).await;
    lab.assert_refused().await;
    osaka.refusal("expired").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_linked_sites_are_let_in_whatever_bundles_there_are() {
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, _osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    ping(&mut app, b"hello").await;
    // Its bundle stays, as that of an agent which knows more sites than this one is linked with.
    let alone = lab
        .hokkaido_text("hokkaido.example/collector")
        .replace("peers: {osaka.example: {bundle: osaka.json}}\n", "");
    let mut desired = lab::desired(&alone);
    desired.policies = lab::desired(&lab.hokkaido_text("osaka.example/collector")).policies;
    hokkaido.proxy.apply(desired).await.unwrap();
    assert_reset(&mut app).await;
    // The first may meet the trunk that is being cut; a later one comes to a handshake.
    within(async {
        while !hokkaido.reasons().contains(&"not_a_peer") {
            lab.assert_refused().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    lab.assert_refused().await;
}

/// Both sites with a trunk between them, and a session from outside of trunks. What is open waits
/// so long for a missing bundle that only the test's own time ends the wait.
async fn waiting_sites(lab: &Lab) -> (Node, Node, TcpStream, TlsStream<TcpStream>) {
    let limits = ProxyLimits {
        bundle_grace: WAIT,
        ..ProxyLimits::default()
    };
    let text = lab.hokkaido_text("osaka.example/collector");
    let hokkaido = Node::start_with(&text, lab.hokkaido_identities(), limits, None).await;
    let osaka = Node::start_with(&lab.osaka_text(), lab.osaka_identities(), limits, None).await;
    let mut app = lab.connect().await;
    ping(&mut app, b"hello").await;
    let alone = session(lab, &svid(lab.osaka_ca.issue("/collector"))).await;
    (hokkaido, osaka, app, alone)
}

const WAIT: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_bundle_that_is_missing_for_a_moment_lets_nobody_in_and_cuts_nothing() {
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, osaka, mut app, mut alone) = waiting_sites(&lab).await;
    for (node, peer, ca, reason) in [
        (
            &hokkaido,
            "osaka.example",
            &lab.osaka_ca,
            "unknown_trust_domain",
        ),
        // Nothing is dialled.
        (&osaka, "hokkaido.example", &lab.hokkaido_ca, "no_bundle"),
    ] {
        forget(node, peer);
        lab.assert_refused().await;
        node.refusal(reason).await;
        ping(&mut app, b"it waits").await;
        echoed(&mut alone).await;
        trust(node, peer, &[ca]);
        ping(&mut lab.connect().await, b"let in again").await;
    }
    ping(&mut app, b"still here").await;
    echoed(&mut alone).await;
}

#[tokio::test]
async fn a_bundle_that_stays_away_cuts_what_is_open() {
    for at_the_callee in [true, false] {
        let lab = Lab::new(&[echo().await]);
        let (hokkaido, osaka, mut app, mut alone) = waiting_sites(&lab).await;
        match at_the_callee {
            true => forget(&hokkaido, "osaka.example"),
            false => forget(&osaka, "hokkaido.example"),
        }
        lab.assert_refused().await;
        ping(&mut app, b"it waits").await;
        pass(WAIT).await;
        assert_reset(&mut app).await;
        match at_the_callee {
            true => broken(&mut alone).await,
            false => echoed(&mut alone).await,
        }
    }
}

#[tokio::test]
async fn an_own_svid_that_is_missing_for_a_moment_lets_nobody_in_and_cuts_nothing() {
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, osaka, mut app, mut alone) = waiting_sites(&lab).await;
    for (node, ca, path) in [
        (&hokkaido, &lab.hokkaido_ca, "/broker"),
        (&osaka, &lab.osaka_ca, "/collector"),
    ] {
        take(node, &id(&format!("{}{path}", ca.trust_domain())));
        lab.assert_refused().await;
        node.refusal("no_identity").await;
        ping(&mut app, b"it waits").await;
        echoed(&mut alone).await;
        give(node, &svid(ca.issue(path)));
        within(async {
            while ping_new(&lab).await.is_err() {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    ping(&mut app, b"still here").await;
    echoed(&mut alone).await;
    take(&hokkaido, &id("hokkaido.example/broker"));
    lab.assert_refused().await;
    ping(&mut app, b"it waits").await;
    pass(WAIT).await;
    assert_reset(&mut app).await;
    broken(&mut alone).await;
}

/// A new connection, which may be refused.
async fn ping_new(lab: &Lab) -> std::io::Result<()> {
    let mut app = TcpStream::connect(lab.listen).await?;
    app.write_all(b"new").await?;
    app.read_exact(&mut [0; 3]).await?;
    Ok(())
}

#[tokio::test]
async fn nothing_waits_for_a_ca_that_left_a_bundle_which_is_there() {
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, _osaka, mut app, mut alone) = waiting_sites(&lab).await;
    let next = TestAuthority::new("osaka.example");
    trust(&hokkaido, "osaka.example", &[&next]);
    assert_reset(&mut app).await;
    broken(&mut alone).await;
}
