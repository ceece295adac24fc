//! A service that cannot be reached: its callers are reset at once when that is known.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use lab::{
    Lab, Node, assert_refused, echo, eventually,
    path::Path,
    ping,
    time::{pass, pass_until, settle},
    within,
};
use renkei_proxy::ProxyLimits;
use renkei_testkit::{Silent, free_address};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than a test waits: a connection that waits for a timeout fails the test.
const TIMEOUT: Duration = lab::DEADLINE.saturating_mul(4);

fn patient() -> ProxyLimits {
    ProxyLimits {
        connect_timeout: TIMEOUT,
        grace: TIMEOUT,
        ..ProxyLimits::default()
    }
}

async fn osaka(lab: &Lab) -> Node {
    let identities = lab.osaka_identities();
    Node::start_with(&lab.osaka_text(), identities, patient(), None).await
}

/// Hokkaido's gateway is at an address that does not answer.
async fn silent_lab() -> (Lab, Silent) {
    let silent = Silent::start();
    let lab = Lab {
        gateway: silent.address,
        ..Lab::new(&[echo().await])
    };
    (lab, silent)
}

async fn fault(node: &Node) -> Option<String> {
    let status = node.proxy.status().await;
    status.listeners[0].fault.clone()
}

/// A message there and back, if the connection is not reset.
async fn try_ping(lab: &Lab) -> std::io::Result<()> {
    let mut app = tokio::net::TcpStream::connect(lab.listen).await?;
    app.write_all(b"hello").await?;
    within(app.read_exact(&mut [0; 5])).await.map(drop)
}

#[tokio::test]
async fn one_timeout_of_a_gateway_is_enough_to_know() {
    let (lab, silent) = silent_lab().await;
    let osaka = osaka(&lab).await;
    // All that wait for the same attempt learn of it.
    let waiting = join_all((0..8).map(|_| lab.assert_refused()));
    pass_until(TIMEOUT / 4, waiting).await;
    for _ in 0..8 {
        lab.assert_refused().await;
    }
    let sentence = osaka.refusal("connect_timeout").await;
    let address = silent.address;
    assert_eq!(
        sentence,
        format!(
            "the gateway of hokkaido.example at {address} cannot be reached: no answer within \
             120 s; connections are reset meanwhile"
        )
    );
    assert!(sentence.starts_with(&fault(&osaka).await.unwrap()));
    // Once it answers, connections are carried again.
    drop(silent);
    let _hokkaido = lab.hokkaido().await;
    while try_ping(&lab).await.is_err() {
        settle().await;
        pass(Duration::from_secs(1)).await;
    }
    assert_eq!(fault(&osaka).await, None);
}

#[tokio::test]
async fn without_the_peers_bundle_nothing_is_dialled() {
    let (lab, _silent) = silent_lab().await;
    let mut without = lab.osaka_identities();
    let hokkaido = lab.hokkaido_ca.trust_domain().parse().unwrap();
    Arc::make_mut(&mut without.bundles).remove(&hokkaido);
    let osaka = Node::start_with(&lab.osaka_text(), without, patient(), None).await;
    lab.assert_refused().await;
    let sentence = osaka.refusal("no_bundle").await;
    assert_eq!(
        sentence,
        "this site has no bundle of hokkaido.example, so it cannot verify \
         hokkaido.example/broker; `renkei status` says why"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_a_backend_says_so_to_the_callers_side() {
    let lab = Lab::new(&[free_address()]);
    let (hokkaido, osaka) = (lab.hokkaido().await, osaka(&lab).await);
    lab.assert_refused().await;
    let sentence = osaka.refusal("peer_unavailable").await;
    assert_eq!(
        sentence,
        "hokkaido.example/broker refused osaka.example/collector: no backend of the service \
         answers"
    );
    hokkaido.refusal("backend_unavailable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_trunk_finds_no_lane_new_connections_are_reset_and_old_ones_wait() {
    let path = Path::to(Lab::new(&[echo().await])).await;
    let hokkaido = path.hokkaido(patient()).await;
    let osaka = path.osaka(patient()).await;
    let mut old = path.lab.connect().await;
    ping(&mut old, b"before").await;
    path.middlebox.refuse(true);
    path.middlebox.kill_all();
    // It is said once that the lanes are lost.
    eventually("a reason", || osaka.reasons().pop()).await;
    assert_refused(path.lab.listen).await;
    path.middlebox.refuse(false);
    ping(&mut path.lab.connect().await, b"new").await;
    ping(&mut old, b"after").await;
    drop(hokkaido);
}
