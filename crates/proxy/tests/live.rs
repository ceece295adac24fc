//! Renewal, changes of the site file, and the end of the process, all with connections open.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{sync::Arc, time::Duration};

use lab::{Lab, assert_reset, echo, eventually, ping};
use renkei_proxy::Applied;
use renkei_spiffe::TrustDomain;
use renkei_testkit::free_address;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewal_leaves_open_connections_alone_and_new_ones_take_the_new_svid() {
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut old = lab.connect().await;
    ping(&mut old, b"old").await;
    let now = time::OffsetDateTime::now_utc()
        .replace_nanosecond(0)
        .unwrap();
    let until = now + Duration::from_secs(600);
    let renewed = lab::svid(lab.osaka_ca.issue_between("/collector", now, until));
    osaka.identities.send_modify(|all| {
        Arc::make_mut(all)
            .svids
            .insert(renewed.id().clone(), renewed);
    });
    hokkaido
        .identities
        .send(Arc::new(lab.hokkaido_identities()))
        .unwrap();
    ping(&mut old, b"still here").await;
    // A lane with the new SVID is dialled in the background; until it is there, the old ones serve.
    loop {
        let mut new = lab.connect().await;
        ping(&mut new, b"new").await;
        let flows = osaka.proxy.status().await.flows;
        assert!(flows[0].svid_not_after > until);
        if flows.iter().any(|flow| flow.svid_not_after == until) {
            break;
        }
    }
    ping(&mut old, b"and still here").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_permission_cuts_its_connections_and_no_others() {
    let lab = Lab::new(&[echo().await]);
    let second = free_address();
    let mut identities = lab.osaka_identities();
    let other = lab::svid(lab.osaka_ca.issue("/reader"));
    identities.svids.insert(other.id().clone(), other);
    let osaka_text = format!(
        "{}  reader:\n    selectors: ['unix:uid:{}']\n    uses: {{hokkaido.example/broker: '{second}'}}\n",
        lab.osaka_text(),
        rustix::process::geteuid().as_raw(),
    );
    let both = lab.hokkaido_text("osaka.example/collector, osaka.example/reader");
    let hokkaido = lab::Node::start(&both, lab.hokkaido_identities()).await;
    let osaka = lab::Node::start(&osaka_text, identities).await;
    let mut collector = lab.connect().await;
    let mut reader = tokio::net::TcpStream::connect(second).await.unwrap();
    ping(&mut collector, b"one").await;
    ping(&mut reader, b"two").await;

    assert_eq!(hokkaido.apply(&both).await.unwrap(), Applied::default());
    ping(&mut collector, b"unchanged").await;

    let fewer = lab.hokkaido_text("osaka.example/collector");
    assert_eq!(hokkaido.apply(&fewer).await.unwrap().cut, 1);
    assert_reset(&mut reader).await;
    ping(&mut collector, b"still here").await;

    // The caller's side takes its own listener away.
    let applied = osaka.apply(&lab.osaka_text()).await.unwrap();
    assert_eq!((applied.opened, applied.closed), (0, 1));
    assert!(tokio::net::TcpStream::connect(second).await.is_err());
    ping(&mut collector, b"still here").await;

    // Another selector on the same address: nobody may go on under the old one.
    osaka.apply(&lab.osaka_text_for(12_345)).await.unwrap();
    assert_reset(&mut collector).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_withdrawn_bundle_cuts_the_connections_of_its_site() {
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, _osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    ping(&mut app, b"hello").await;
    hokkaido.identities.send_modify(|all| {
        let all = Arc::make_mut(all);
        let gone = TrustDomain::parse("osaka.example").unwrap();
        Arc::make_mut(&mut all.bundles).remove(&gone);
    });
    assert_reset(&mut app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_in_use_are_all_reported_and_nothing_changes() {
    let lab = Lab::new(&[echo().await]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    ping(&mut app, b"hello").await;
    let taken: Vec<_> = (0..2)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let address = |n: usize| taken[n].local_addr().unwrap();
    let text = lab
        .osaka_text()
        .replace(&lab.listen.to_string(), &address(0).to_string());
    let text = text.replace(
        "workloads:",
        &format!(
            "gateway: {{listen: '{0}', advertise: '{0}'}}\nworkloads:",
            address(1)
        ),
    );
    let error = osaka.apply(&text).await.unwrap_err();
    assert_eq!(error.faults.len(), 2);
    assert!(
        error
            .to_string()
            .contains("another program already listens there"),
        "{error}"
    );
    ping(&mut app, b"still here").await;
    ping(&mut lab.connect().await, b"and new ones").await;
    drop(hokkaido);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_moves_and_its_connections_stay() {
    let mut lab = Lab::new(&[echo().await]);
    let (hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    ping(&mut app, b"hello").await;
    let old = lab.gateway;
    lab.gateway = free_address();
    hokkaido
        .apply(&lab.hokkaido_text("osaka.example/collector"))
        .await
        .unwrap();
    osaka.apply(&lab.osaka_text()).await.unwrap();
    eventually("closed", || {
        std::net::TcpStream::connect(old).is_err().then_some(())
    })
    .await;
    ping(&mut app, b"still here").await;
    ping(&mut lab.connect().await, b"new way").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_lets_connections_end_and_resets_those_that_do_not() {
    let lab = Lab::new(&[echo().await]);
    let (_hokkaido, osaka) = (lab.hokkaido().await, lab.osaka().await);
    let (mut ends, mut stays) = (lab.connect().await, lab.connect().await);
    ping(&mut ends, b"one").await;
    ping(&mut stays, b"two").await;
    osaka.drain.begin();
    eventually("refused", || {
        std::net::TcpStream::connect(lab.listen)
            .is_err()
            .then_some(())
    })
    .await;
    ping(&mut ends, b"goes on").await;
    drop(ends);
    eventually("one has ended", || (osaka.open() == 1).then_some(())).await;
    let drained = osaka.drain.wait(Duration::from_millis(500)).await;
    assert_eq!(drained.left, 1);
    assert_reset(&mut stays).await;
    eventually("no flow", || (osaka.open() == 0).then_some(())).await;
}
