//! The keys of lanes: how often they change, with peers that take new keys and with those that do
//! not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use lab::{
    Lab, Node, echo,
    lane::{self, ACK, DATA, HELLO, LANE_CLOSE, OPEN, PING, PONG, VERSION},
    middlebox::Middlebox,
    path::{MIB, Progress, bytes, exchange},
    ping, svid,
    tap::Tap,
    within,
};
use renkei_proxy::ProxyLimits;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// The names of the protocol with key updates and without.
const WITH: &[u8] = b"renkei-trunk/1.1";
const WITHOUT: &[u8] = b"renkei-trunk/1";

const TRUNK: [u8; 16] = *b"a trunk by hand.";

fn limits(records_per_key: u64, records_per_lane: u64) -> ProxyLimits {
    ProxyLimits {
        records_per_key,
        records_per_lane,
        ..ProxyLimits::default()
    }
}

async fn hokkaido(lab: &Lab, limits: ProxyLimits) -> Node {
    let text = lab.hokkaido_text("osaka.example/collector");
    Node::start_with(&text, lab.hokkaido_identities(), limits, None).await
}

/// Osaka, which reaches Hokkaido's gateway by this address.
async fn osaka_by(lab: &Lab, address: std::net::SocketAddr, limits: ProxyLimits) -> Node {
    let text = lab.osaka_text();
    let text = text.replace(&lab.gateway.to_string(), &address.to_string());
    Node::start_with(&text, lab.osaka_identities(), limits, None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_carries_large_data_through_many_keys_and_stays() {
    let lab = Lab::new(&[echo().await]);
    let tap = Tap::start(lab.gateway).await;
    let middlebox = Middlebox::start(tap.address).await;
    // Without new keys a lane would be replaced every MiB.
    let limits = limits(8, 64);
    let hokkaido = hokkaido(&lab, limits).await;
    let osaka = osaka_by(&lab, middlebox.address, limits).await;
    let sent = bytes(8 * MIB);
    for round in 1..=2 {
        exchange(lab.connect().await, sent.clone(), Progress::default()).await;
        // Of 512 full records a round in each direction.
        let updates = (tap.there.key_updates(), tap.back.key_updates());
        assert!(
            updates.0 >= 60 * round && updates.1 >= 60 * round,
            "{updates:?}"
        );
        assert_eq!(middlebox.oldest(), Some(0), "the first lane is there");
    }
    for node in [&hokkaido, &osaka] {
        assert_eq!(node.reasons(), Vec::<&str>::new());
    }
}

/// The fields of a frame about the first stream of a caller.
fn about_stream(rest: &[u8]) -> Vec<u8> {
    [&[0; 8], rest].concat()
}

/// Reads DATA with one byte, the next of the first stream, and acknowledges it.
async fn take_byte(lane: &mut (impl AsyncRead + AsyncWrite + Unpin), offset: u64) -> u8 {
    let byte = loop {
        let (kind, fields) = lane::next(lane).await.unwrap();
        if kind == DATA {
            assert_eq!(fields[8..16], offset.to_be_bytes());
            assert_eq!(fields.len(), 17);
            break fields[16];
        }
    };
    let fields = about_stream(&[offset + 1, 1 << 20].map(u64::to_be_bytes).concat());
    lane.write_all(&lane::frame(ACK, &fields)).await.unwrap();
    byte
}

/// Osaka and a peer by hand that it has sent ten records to.
struct Dialled {
    tap: Tap,
    connections: lane::Connections,
    first: lane::Lane,
    _osaka: Node,
    _app: tokio::net::TcpStream,
}

/// The peer chooses this protocol.
async fn dialled_with(protocol: &[u8]) -> Dialled {
    let lab = Lab::new(&[]);
    let tap = Tap::start(lab.gateway).await;
    let mut connections = lane::gateway(&lab, &[protocol]).await;
    let osaka = osaka_by(&lab, tap.address, limits(2, 6)).await;
    let mut app = lab.connect().await;
    let mut first = within(connections.recv()).await.unwrap();
    lane::answer(&mut first).await;
    for n in 0..10 {
        app.write_all(&[n]).await.unwrap();
        assert_eq!(take_byte(&mut first, n.into()).await, n);
    }
    Dialled {
        tap,
        connections,
        first,
        _osaka: osaka,
        _app: app,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_changes_the_keys_of_a_lane_whose_callee_takes_new_ones() {
    let mut dialled = dialled_with(WITH).await;
    let updates = dialled.tap.there.key_updates();
    assert!(updates >= 4, "{updates} updates");
    assert!(dialled.connections.try_recv().is_err(), "no other lane");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_replaces_a_lane_whose_callee_takes_no_new_keys() {
    let mut dialled = dialled_with(WITHOUT).await;
    let mut second = within(dialled.connections.recv()).await.unwrap();
    lane::answer(&mut second).await;
    while lane::next(&mut dialled.first).await.unwrap().0 != LANE_CLOSE {}
    assert_eq!(dialled.tap.there.key_updates(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_changes_its_keys_if_the_caller_takes_new_ones() {
    let lab = Lab::new(&[echo().await]);
    let tap = Tap::start(lab.gateway).await;
    let _hokkaido = hokkaido(&lab, limits(2, 1 << 23)).await;
    let collector = svid(lab.osaka_ca.issue("/collector"));
    for protocol in [WITHOUT, WITH] {
        let mut lane = lane::dial_by(&lab, &collector, tap.address, protocol).await;
        let mut trunk = TRUNK;
        trunk[0] = protocol.len() as u8;
        let hello = lane::hello(VERSION, trunk, [0; 8], 0);
        lane.write_all(&hello).await.unwrap();
        assert_eq!(lane::next(&mut lane).await.unwrap().0, HELLO);
        lane.write_all(&lane::frame(OPEN, &about_stream(b"")))
            .await
            .unwrap();
        for n in 0..10_u8 {
            let fields = about_stream(&[&u64::from(n).to_be_bytes()[..], &[n]].concat());
            lane.write_all(&lane::frame(DATA, &fields)).await.unwrap();
            assert_eq!(take_byte(&mut lane, n.into()).await, n);
        }
        let updates = tap.back.key_updates();
        assert_eq!(updates >= 4, protocol == WITH, "{updates} updates");
        assert_eq!(updates > 0, protocol == WITH, "{updates} updates");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_is_all_rustls_changes_its_keys_and_gets_new_ones_when_it_asks() {
    let lab = Lab::new(&[]);
    let tap = Tap::start(lab.gateway).await;
    let mut connections = lane::gateway(&lab, &[WITH]).await;
    let _osaka = osaka_by(&lab, tap.address, ProxyLimits::default()).await;
    let _app = lab.connect().await;
    let mut lane = within(connections.recv()).await.unwrap();
    lane::answer(&mut lane).await;
    for round in 1..=50_usize {
        lane.get_mut().1.refresh_traffic_keys().unwrap();
        let nonce = (round as u64).to_be_bytes();
        lane.write_all(&lane::frame(PING, &nonce)).await.unwrap();
        while lane::next(&mut lane).await.unwrap() != (PONG, nonce.to_vec()) {}
        let updates = (tap.back.key_updates(), tap.there.key_updates());
        assert_eq!(updates, (round, round), "theirs, and the answers");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_key_updates_ends_its_lane_and_harms_no_other() {
    let lab = Lab::new(&[echo().await]);
    let _hokkaido = hokkaido(&lab, ProxyLimits::default()).await;
    let _osaka = lab.osaka().await;
    let mut app = lab.connect().await;
    ping(&mut app, b"before").await;
    let collector = svid(lab.osaka_ca.issue("/collector"));
    let mut lane = lane::dial_by(&lab, &collector, lab.gateway, WITH).await;
    let hello = lane::hello(VERSION, TRUNK, [0; 8], 0);
    lane.write_all(&hello).await.unwrap();
    assert_eq!(lane::next(&mut lane).await.unwrap().0, HELLO);
    for _ in 0..40 {
        lane.get_mut().1.refresh_traffic_keys().unwrap();
    }
    // The lane may be over before all have gone.
    let _ = lane.flush().await;
    while lane::next(&mut lane).await.is_ok() {}
    ping(&mut app, b"after").await;
}
