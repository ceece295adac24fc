//! Backends that are down: what callers at another site notice of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{net::SocketAddr, time::Duration};

use lab::{
    Lab, Node, echo,
    time::{pass, pass_until},
    within,
};
use renkei_api::status::BackendStatus;
use renkei_proxy::ProxyLimits;
use renkei_testkit::{Silent, free_address};
use tokio::{io::AsyncWriteExt, net::TcpListener};

/// Longer than a test waits: a connection that waits for a silent backend fails the test.
const TIMEOUT: Duration = lab::DEADLINE.saturating_mul(4);

async fn sites(lab: &Lab) -> (Node, Node) {
    let limits = ProxyLimits {
        connect_timeout: TIMEOUT,
        ..ProxyLimits::default()
    };
    let text = lab.hokkaido_text("osaka.example/collector");
    let identities = lab.hokkaido_identities();
    let hokkaido = Node::start_with(&text, identities, limits, None).await;
    (hokkaido, lab.osaka().await)
}

async fn ping(lab: &Lab) {
    let mut app = within(lab.connect()).await;
    lab::ping(&mut app, b"hello").await;
}

async fn status_of(node: &Node, address: SocketAddr) -> BackendStatus {
    let all = node.proxy.status().await.backends;
    let address = address.to_string();
    all.into_iter().find(|one| one.address == address).unwrap()
}

/// An echo at this address.
async fn serve(address: SocketAddr) {
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                if tokio::io::copy(&mut read, &mut write).await.is_ok() {
                    let _ = write.shutdown().await;
                }
            });
        }
    });
}

#[tokio::test]
async fn the_share_of_a_backend_that_refuses_is_spread_over_all_others() {
    let dead = free_address();
    let live = [echo().await, echo().await];
    let lab = Lab::new(&[dead, live[0], live[1]]);
    let (hokkaido, _osaka) = sites(&lab).await;
    for _ in 0..42 {
        ping(&lab).await;
    }
    let [one, other] = [
        status_of(&hokkaido, live[0]).await,
        status_of(&hokkaido, live[1]).await,
    ];
    assert_eq!(one.connections + other.connections, 42);
    assert!(
        one.connections.abs_diff(other.connections) <= 2,
        "{one:?} {other:?}"
    );
    let dead = status_of(&hokkaido, dead).await;
    assert!(!dead.up && dead.down_since.is_some(), "{dead:?}");
    let reason = dead.last_error.unwrap();
    assert_eq!(reason, "nothing listens there (connection refused)");
    assert!(hokkaido.reasons().is_empty());
}

#[tokio::test]
async fn a_silent_backend_costs_one_wait_and_not_every_third_connection_one() {
    let silent = Silent::start();
    let lab = Lab::new(&[silent.address, echo().await, echo().await]);
    let (hokkaido, _osaka) = sites(&lab).await;
    pass_until(TIMEOUT / 4, ping(&lab)).await;
    let down = status_of(&hokkaido, silent.address).await;
    assert_eq!((down.up, down.failures), (false, 1));
    for _ in 0..12 {
        ping(&lab).await;
    }
    // It is tried again, and the connection that does so does not wait for it.
    pass(Duration::from_secs(10)).await;
    for _ in 0..12 {
        ping(&lab).await;
    }
    let down = status_of(&hokkaido, silent.address).await;
    assert_eq!((down.up, down.connections), (false, 0));
}

#[tokio::test]
async fn a_backend_that_returns_gets_its_share_again() {
    let (returns, live) = (free_address(), echo().await);
    let lab = Lab::new(&[returns, live]);
    let (hokkaido, _osaka) = sites(&lab).await;
    for _ in 0..2 {
        ping(&lab).await;
    }
    assert!(!status_of(&hokkaido, returns).await.up);
    serve(returns).await;
    pass(Duration::from_secs(2)).await;
    for _ in 0..11 {
        ping(&lab).await;
    }
    let status = status_of(&hokkaido, returns).await;
    assert!(status.up && status.connections >= 5, "{status:?}");
}

#[tokio::test]
async fn while_all_backends_are_down_every_connection_tries_them() {
    let (one, other) = (free_address(), free_address());
    let lab = Lab::new(&[one, other]);
    let (hokkaido, _osaka) = sites(&lab).await;
    for _ in 0..8 {
        lab.assert_refused().await;
    }
    let sentence = hokkaido.refusal("backend_unavailable").await;
    for address in [one, other] {
        assert!(sentence.contains(&address.to_string()), "{sentence}");
        assert!(!status_of(&hokkaido, address).await.up);
    }
    // No backoff is waited for.
    serve(other).await;
    ping(&lab).await;
}
