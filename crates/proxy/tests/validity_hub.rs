//! The link between a hub and a site that only dials out is made with the SVIDs of two servers:
//! it ends with them, and so does everything that it carries.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::time::Duration;

use lab::{
    assert_reset, echo, id, ping,
    renewal::{brief, give, take, trust},
    svid,
    three::{Three, linked, unlinked, unlinked_at_hub},
    time::TimeOfDay,
};
use renkei_proxy::ProxyLimits;
use renkei_testkit::TestAuthority;

/// Connections whose path is gone end soon.
fn impatient() -> ProxyLimits {
    ProxyLimits {
        grace: Duration::from_secs(1),
        ..ProxyLimits::default()
    }
}

#[tokio::test]
async fn a_link_ends_with_the_svid_of_the_site_and_comes_back_with_the_next() {
    let time = TimeOfDay::hold().await;
    let three = Three::new(echo().await).await;
    let (hokkaido, osaka, _kyushu) = three.sites(impatient()).await;
    let last = brief(&three.osaka_ca, "/renkei/server");
    give(&osaka, &last);
    let mut app = three.connect().await;
    ping(&mut app, b"through the hub").await;
    time.end(&last).await;
    unlinked_at_hub(&hokkaido).await;
    assert_reset(&mut app).await;
    let reason = unlinked(&osaka, "").await;
    assert!(!reason.is_empty());
    give(&osaka, &svid(three.osaka_ca.issue("/renkei/server")));
    linked(&hokkaido, &osaka).await;
    ping(&mut three.connect().await, b"and again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_ends_when_the_ca_of_the_site_leaves_the_hubs_bundle() {
    let three = Three::new(echo().await).await;
    let (hokkaido, osaka, kyushu) = three.sites(impatient()).await;
    let mut app = three.connect().await;
    ping(&mut app, b"through the hub").await;
    let next = TestAuthority::new("osaka.example");
    trust(&hokkaido, "osaka.example", &[&next]);
    unlinked_at_hub(&hokkaido).await;
    three.assert_refused().await;
    // With the next CA, which Kyushu knows too, it comes back.
    trust(&kyushu, "osaka.example", &[&three.osaka_ca, &next]);
    give(&osaka, &svid(next.issue("/renkei/server")));
    linked(&hokkaido, &osaka).await;
    ping(&mut three.connect().await, b"and again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_ends_when_either_server_loses_its_identity() {
    for of_the_hub in [true, false] {
        let three = Three::new(echo().await).await;
        let (hokkaido, osaka, _kyushu) = three.sites(impatient()).await;
        let mut app = three.connect().await;
        ping(&mut app, b"through the hub").await;
        match of_the_hub {
            true => take(&hokkaido, &id("hokkaido.example/renkei/server")),
            false => take(&osaka, &id("osaka.example/renkei/server")),
        }
        unlinked_at_hub(&hokkaido).await;
        three.assert_refused().await;
        unlinked(&osaka, "").await;
    }
}
