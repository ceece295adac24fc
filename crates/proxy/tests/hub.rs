//! A site that listens nowhere, reached through its hub: what callers, the site and the hub see.

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
    Node, assert_reset, backend, echo, eventually, id,
    path::{MIB, Progress, bytes, exchange},
    ping, provider, svid,
    three::{Three, linked, unlinked, unlinked_at_hub},
    within,
};
use renkei_api::status::HubStatus;
use renkei_proxy::ProxyLimits;
use renkei_spiffe::{BundleSet, client_side, server_side};
use renkei_testkit::{TestAuthority, free_address};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn impatient() -> ProxyLimits {
    ProxyLimits {
        grace: Duration::from_secs(1),
        ..ProxyLimits::default()
    }
}

async fn hub_of(osaka: &Node) -> HubStatus {
    osaka.proxy.status().await.hub.expect("a hub")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_listens_nowhere_is_reached_through_its_hub() {
    let three = Three::new(echo().await).await;
    let (hokkaido, osaka, _kyushu) = three.sites(ProxyLimits::default()).await;
    assert_eq!(osaka.proxy.status().await.gateway, None);
    let mut app = three.connect().await;
    ping(&mut app, b"through the hub").await;
    // The hub carried it, and knows no more than that.
    let hub = hokkaido.proxy.status().await;
    assert_eq!((hub.flows.len(), hub.totals.len()), (0, 0));
    assert_eq!(
        (hub.relays[0].link.open, hub.relays[0].link.connections),
        (1, 1)
    );
    // The site has the caller's identity, and no address of its own for its place.
    let flow = osaka.proxy.status().await.flows.remove(0);
    assert_eq!(flow.pair.caller, id("kyushu.example/collector"));
    assert_eq!(flow.remote, three.link.address);
    let mut registry = prometheus_client::registry::Registry::default();
    hokkaido.proxy.register(&mut registry);
    let mut metrics = String::new();
    prometheus_client::encoding::text::encode(&mut metrics, &registry).unwrap();
    for line in [
        "renkei_link_up{peer=\"osaka.example\",role=\"site\"} 1",
        "renkei_link_connections_total{peer=\"osaka.example\",role=\"site\"} 1",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    // Workloads at the hub reach the site too.
    let mut forwarder = TcpStream::connect(three.hub_listen).await.unwrap();
    ping(&mut forwarder, b"from the hub's own site").await;
    assert_eq!(osaka.open(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_crosses_the_hub_is_ciphertext() {
    let three = Three::new(echo().await).await;
    let (hokkaido, _osaka, _kyushu) = three.sites(ProxyLimits::default()).await;
    let secret = b"the quick brown fox is a secret of Kyushu and Osaka; ".repeat(40_000);
    let secret = Arc::new(secret);
    let app = three.connect().await;
    within(exchange(app, secret.clone(), Progress::default())).await;
    // All that the hub took from Kyushu and gave it, byte for byte, is what the tap has.
    let relayed = hokkaido.proxy.status().await.relays.remove(0).link;
    let (there, back) = (three.tap.there.seen(), three.tap.back.seen());
    assert!(there.len() > secret.len() && back.len() > secret.len());
    assert!(relayed.bytes_sent >= secret.len() as u64, "{relayed:?}");
    assert!(relayed.bytes_sent <= there.len() as u64, "{relayed:?}");
    for seen in [there, back] {
        let part = &secret[..20];
        assert!(!seen.windows(part.len()).any(|window| window == part));
    }
    // Whoever has only the hub's keys has not been part of a session.
    assert_eq!(hokkaido.proxy.status().await.totals.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_changes_a_byte_changes_nothing_that_arrives() {
    let three = Three::new(echo().await).await;
    let _sites = three.sites(ProxyLimits::default()).await;
    // In the middle of a transfer: the lane breaks, and what was lost goes again by another.
    three.tap.there.flip(700_000);
    let app = three.connect().await;
    within(exchange(app, bytes(2 * MIB), Progress::default())).await;
    assert!(three.tap.accepted() > 1);
    // In the handshake: there is no session at all.
    for (there, back) in [(300, lab::tap::NEVER), (lab::tap::NEVER, 300)] {
        let three = Three::new(echo().await).await;
        three.tap.there.flip(there);
        three.tap.back.flip(back);
        let (_hokkaido, osaka, kyushu) = three.sites(impatient()).await;
        three.assert_refused().await;
        assert_eq!((kyushu.open(), osaka.open()), (0, 0));
        eventually("a reason", || kyushu.reasons().pop()).await;
    }
}

/// A hub that answers in place of the site, with this certificate.
async fn impostor(at: std::net::SocketAddr, own: renkei_testkit::Issued, of: &TestAuthority) {
    let bundles: BundleSet = [lab::bundle(of)].into_iter().collect();
    let anybody = Arc::new(id("kyushu.example/collector"));
    let alpn: &[&[u8]] = &[b"renkei-trunk/1"];
    let side = server_side(&provider(), &svid(own), Arc::new(bundles), anybody, alpn).unwrap();
    let listener = TcpListener::bind(at).await.unwrap();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(side.config);
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(mut tls) = acceptor.accept(tcp).await {
                let heard = tls.read(&mut [0; 100]).await.unwrap_or(0);
                assert_eq!(heard, 0, "the caller spoke to an impostor");
            }
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_answers_for_the_site_is_refused_by_the_caller() {
    let forger = TestAuthority::new("osaka.example");
    let hub = TestAuthority::new("hokkaido.example");
    for (own, reason) in [
        (hub.issue("/store"), "unknown_trust_domain"),
        (forger.issue("/store"), "untrusted_ca"),
    ] {
        let three = Three::new(echo().await).await;
        impostor(three.gateway, own, &three.kyushu_ca).await;
        let kyushu = three.kyushu(ProxyLimits::default()).await;
        three.assert_refused().await;
        kyushu.refusal(reason).await;
    }
    // With the site's own bundle, and another of its identities.
    let three = Three::new(echo().await).await;
    let other = three.osaka_ca.issue("/other");
    impostor(three.gateway, other, &three.kyushu_ca).await;
    let kyushu = three.kyushu(ProxyLimits::default()).await;
    three.assert_refused().await;
    kyushu.refusal("unexpected_peer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_link_callers_are_told_at_once() {
    let three = Three::new(echo().await).await;
    let hokkaido = three.hokkaido().await;
    let kyushu = three.kyushu(ProxyLimits::default()).await;
    three.assert_refused().await;
    let sentence = kyushu.refusal("not_linked").await;
    assert!(
        sentence.contains("osaka.example is not linked"),
        "{sentence}"
    );
    let theirs = hokkaido.refusal("not_linked").await;
    assert!(
        theirs.contains("it has not dialled this hub yet"),
        "{theirs}"
    );
    // It comes when it can.
    let osaka = three.osaka(ProxyLimits::default()).await;
    linked(&hokkaido, &osaka).await;
    ping(&mut three.connect().await, b"now").await;
    // And when it stops, that is known.
    osaka.drain.begin();
    assert_eq!(osaka.drain.wait(lab::DEADLINE).await.left, 0);
    drop(osaka);
    unlinked_at_hub(&hokkaido).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_under_relays_is_refused_and_told_so() {
    let three = Three::new(echo().await).await;
    let hokkaido = Node::start(&three.hokkaido_text(""), three.hokkaido_identities()).await;
    let osaka = three.osaka(ProxyLimits::default()).await;
    unlinked(
        &osaka,
        "relays only for sites under `relays` in its site file",
    )
    .await;
    let sentence = hokkaido.refusal("not_relayed").await;
    assert!(
        sentence.contains("osaka.example is not under `relays`"),
        "{sentence}"
    );
    // A hub that has become one is found without anybody doing anything at the site.
    hokkaido
        .apply(&three.hokkaido_text("osaka.example"))
        .await
        .unwrap();
    linked(&hokkaido, &osaka).await;
    // Only the server of the site may link it.
    let hub = three.gateway.to_string();
    let text = three
        .osaka_text(true)
        .replace(&three.link.address.to_string(), &hub);
    let imposter = TestAuthority::new("osaka.example");
    let trusts = [&three.hokkaido_ca, &three.kyushu_ca];
    let stranger = lab::identities(&imposter, &["/store", "/renkei/server"], &trusts);
    let _stranger = Node::start(&text, stranger).await;
    hokkaido.refusal("untrusted_ca").await;
    let _kyushu = three.kyushu(ProxyLimits::default()).await;
    ping(&mut three.connect().await, b"to the real one").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_outlives_every_connection_of_the_link() {
    let three = Three::new(echo().await).await;
    let (_hokkaido, osaka, kyushu) = three.sites(ProxyLimits::default()).await;
    let got = Progress::default();
    let transfer = exchange(three.connect().await, bytes(48 * MIB), got.clone());
    let transfer = tokio::spawn(transfer);
    for round in 1..=8 {
        got.reached(round * 5 * MIB).await;
        if round == 4 {
            three.link.refuse(true);
            three.link.kill_all();
            let refused = || (three.link.refused() >= 3).then_some(());
            eventually("attempts to dial", refused).await;
            three.link.refuse(false);
        } else {
            let killed = || three.link.kill_one().then_some(());
            eventually("a connection of the link", killed).await;
        }
    }
    transfer.await.unwrap();
    assert_eq!(kyushu.proxy.status().await.totals[0].totals.connections, 1);
    assert_eq!(osaka.proxy.status().await.totals[0].totals.connections, 1);
    // While nothing linked Osaka, a new lane was refused for that reason, and for no other.
    let mut reasons = kyushu.reasons();
    reasons.retain(|reason| *reason != "not_linked");
    assert_eq!(reasons, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_and_resets_keep_their_meaning() {
    let (address, mut connections) = backend().await;
    let three = Three::new(address).await;
    let _sites = three.sites(ProxyLimits::default()).await;
    for caller_first in [true, false] {
        let app = three.connect().await;
        let service = within(connections.recv()).await.unwrap();
        let (mut first, mut second) = match caller_first {
            true => (app, service),
            false => (service, app),
        };
        first.write_all(b"question").await.unwrap();
        first.shutdown().await.unwrap();
        let mut heard = Vec::new();
        within(second.read_to_end(&mut heard)).await.unwrap();
        second.write_all(b"answer").await.unwrap();
        drop(second);
        within(first.read_to_end(&mut heard)).await.unwrap();
        assert_eq!(heard, b"questionanswer");
    }
    let app = three.connect().await;
    let mut service = within(connections.recv()).await.unwrap();
    lab::middlebox::reset(app);
    assert_reset(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn withdrawn_relaying_ends_what_it_carried() {
    let three = Three::new(echo().await).await;
    let (hokkaido, osaka, _kyushu) = three.sites(impatient()).await;
    let mut app = three.connect().await;
    ping(&mut app, b"while it lasts").await;
    hokkaido.apply(&three.hokkaido_text("")).await.unwrap();
    assert_reset(&mut app).await;
    assert!(hokkaido.proxy.status().await.relays.is_empty());
    unlinked(
        &osaka,
        "relays only for sites under `relays` in its site file",
    )
    .await;
    hokkaido
        .apply(&three.hokkaido_text("osaka.example"))
        .await
        .unwrap();
    linked(&hokkaido, &osaka).await;
    let mut app = three.connect().await;
    ping(&mut app, b"again").await;
    // The site leaves its hub, and returns.
    osaka.apply(&three.osaka_text(false)).await.unwrap();
    assert_reset(&mut app).await;
    assert!(osaka.proxy.status().await.hub.is_none());
    osaka.apply(&three.osaka_text(true)).await.unwrap();
    linked(&hokkaido, &osaka).await;
    ping(&mut three.connect().await, b"once more").await;
    // A hub whose bundle is withdrawn, at either end, is none.
    let mut without = three.osaka_identities();
    Arc::make_mut(&mut without.bundles)
        .remove(three.hokkaido_ca.trust_domain().parse().as_ref().unwrap());
    osaka.identities.send(Arc::new(without)).unwrap();
    unlinked(&osaka, "the bundle of hokkaido.example is not known").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_identity_says_so_to_the_site_and_through_the_hub() {
    let three = Three::new(echo().await).await;
    let (hokkaido, osaka, kyushu) = three.sites(impatient()).await;
    // A service behind the hub.
    osaka.identities.send_modify(|all| {
        Arc::make_mut(all).svids.remove(&id("osaka.example/store"));
    });
    three.assert_refused().await;
    let sentence = kyushu.refusal("peer_no_identity").await;
    assert!(
        sentence.starts_with("osaka.example/store has no valid identity at this time"),
        "{sentence}"
    );
    // The hub itself.
    hokkaido
        .identities
        .send_modify(|all| Arc::make_mut(all).svids.clear());
    unlinked(
        &osaka,
        "hokkaido.example/renkei/server has no valid identity at this time",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_svid_takes_over_the_link_under_an_open_connection() {
    let three = Three::new(echo().await).await;
    let (hokkaido, osaka, _kyushu) = three.sites(ProxyLimits::default()).await;
    let mut app = three.connect().await;
    ping(&mut app, b"before").await;
    let dialled = three.link.accepted();
    osaka
        .identities
        .send(Arc::new(three.osaka_identities()))
        .unwrap();
    hokkaido
        .identities
        .send(Arc::new(three.hokkaido_identities()))
        .unwrap();
    eventually("a lane with the new SVID", || {
        (three.link.accepted() > dialled && three.link.open() == 1).then_some(())
    })
    .await;
    ping(&mut app, b"after").await;
    linked(&hokkaido, &osaka).await;
    assert_eq!(hub_of(&osaka).await.link.connections, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_hub_is_found_again() {
    let three = Three::new(echo().await).await;
    let osaka = three.osaka(ProxyLimits::default()).await;
    let _kyushu = three.kyushu(ProxyLimits::default()).await;
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let text = three.hokkaido_text("osaka.example");
        let identities = three.hokkaido_identities();
        let hokkaido = runtime.spawn(async move { Node::start(&text, identities).await });
        let hokkaido = hokkaido.await.unwrap();
        linked(&hokkaido, &osaka).await;
        ping(&mut three.connect().await, b"through this hub").await;
        runtime.shutdown_background();
        drop(hokkaido);
        unlinked(&osaka, "").await;
        let gateway = three.gateway;
        eventually("the gateway is gone", || {
            std::net::TcpStream::connect(gateway).is_err().then_some(())
        })
        .await;
    }
}

/// The greeting of a caller who asks for `name`.
fn greeting(name: &str) -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut greeting = Vec::new();
    client.write_tls(&mut greeting).unwrap();
    greeting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greetings_are_passed_on_whole_however_they_come() {
    let three = Three::new(echo().await).await;
    let (hokkaido, osaka, _kyushu) = three.sites(ProxyLimits::default()).await;
    for name in ["store.osaka.example", "Store.OSAKA.example"] {
        let mut caller = TcpStream::connect(three.gateway).await.unwrap();
        caller.set_nodelay(true).unwrap();
        for piece in greeting(name).chunks(100) {
            caller.write_all(piece).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut first = [0];
        within(caller.read_exact(&mut first)).await.unwrap();
        assert_eq!(first, [0x16], "Osaka's part of a handshake");
    }
    // Any other name of the trust domain is for its bundle endpoint.
    let mut reader = TcpStream::connect(three.gateway).await.unwrap();
    reader.write_all(&greeting("osaka.example")).await.unwrap();
    let mut heard = [0; 9];
    within(reader.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"elsewhere");
    assert_eq!(hub_of(&osaka).await.link.connections, 3);
    // A name of nobody is for the hub's own.
    let mut reader = TcpStream::connect(three.gateway).await.unwrap();
    let name = greeting("store.tokyo.example");
    reader.write_all(&name).await.unwrap();
    within(reader.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"elsewhere");
    // What is no greeting gets nowhere.
    let mut endless = name.clone();
    endless[3..5].copy_from_slice(&[0xff, 0xff]);
    for bad in [b"GET / HTTP/1.1\r\n".to_vec(), vec![0x16; 200_000], endless] {
        let mut caller = TcpStream::connect(three.gateway).await.unwrap();
        let _ = caller.write_all(&bad).await;
        let mut heard = Vec::new();
        let _ = within(caller.read_to_end(&mut heard)).await;
        assert!(
            heard.len() < 10 && heard.first() != Some(&0x16),
            "{heard:?}"
        );
    }
    assert_eq!(hub_of(&osaka).await.link.connections, 3);
    hokkaido.refusal("bad_handshake").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_knows_no_trunks_has_a_session_of_its_own() {
    let three = Three::new(echo().await).await;
    let (_hokkaido, osaka, _kyushu) = three.sites(ProxyLimits::default()).await;
    let own = svid(three.kyushu_ca.issue("/collector"));
    let bundles: BundleSet = [lab::bundle(&three.osaka_ca)].into_iter().collect();
    let callee = Arc::new(id("osaka.example/store"));
    let side = client_side(&provider(), &own, Arc::new(bundles), callee, &[]).unwrap();
    let tcp = TcpStream::connect(three.gateway).await.unwrap();
    let name = "store.osaka.example".try_into().unwrap();
    let mut tls = TlsConnector::from(side.config)
        .connect(name, tcp)
        .await
        .unwrap();
    tls.write_all(b"no trunk").await.unwrap();
    tls.shutdown().await.unwrap();
    let mut heard = Vec::new();
    within(tls.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"no trunk");
    // Cut short, it is a reset for the service's side, and no clean end.
    eventually("closed", || (osaka.open() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_with_a_hub_still_reaches_itself_and_may_listen_too() {
    let three = Three::new(echo().await).await;
    let hokkaido = three.hokkaido().await;
    let (own, direct, listen) = (free_address(), free_address(), free_address());
    let uid = rustix::process::geteuid().as_raw();
    let local = format!(
        "workloads:\n  local: {{selectors: ['unix:uid:{uid}'], uses: {{store: '{own}'}}}}\n"
    );
    let text = three.osaka_text(true) + &local;
    let text = text.replace(
        "kyushu.example/collector,",
        "kyushu.example/collector, local,",
    );
    let mut identities = three.osaka_identities();
    let svid = svid(three.osaka_ca.issue("/local"));
    identities.svids.insert(svid.id().clone(), svid);
    let osaka = Node::start(&text, identities).await;
    linked(&hokkaido, &osaka).await;
    let _kyushu = three.kyushu(ProxyLimits::default()).await;
    let mut through = three.connect().await;
    let mut inside = TcpStream::connect(own).await.unwrap();
    ping(&mut through, b"through the hub").await;
    ping(&mut inside, b"within the site").await;
    // The hub goes on while the gateway moves to an address of its own.
    let text = text.replace("{via:", &format!("{{listen: '{listen}', via:"));
    osaka.apply(&text).await.unwrap();
    assert_eq!(osaka.proxy.status().await.gateway, Some(listen));
    ping(&mut through, b"still").await;
    ping(&mut inside, b"as well").await;
    ping(&mut three.connect().await, b"and anew").await;
    let near = three.kyushu_text();
    let near = near.replace(&three.tap.address.to_string(), &listen.to_string());
    let near = near.replace(&three.listen.to_string(), &direct.to_string());
    let trusts = [&three.osaka_ca];
    let identities = lab::identities(&three.kyushu_ca, &["/collector"], &trusts);
    let _near = Node::start(&near, identities).await;
    let before = three.tap.accepted();
    ping(
        &mut TcpStream::connect(direct).await.unwrap(),
        b"without the hub",
    )
    .await;
    assert_eq!(three.tap.accepted(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_has_gone_silent_is_dialled_again() {
    let three = Three::new(echo().await).await;
    let _sites = three.sites(ProxyLimits::default()).await;
    let mut app = three.connect().await;
    ping(&mut app, b"before").await;
    // As a firewall does that has forgotten the connection.
    three.link.stall(true);
    ping(&mut app, b"after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_stops_lets_its_connections_end() {
    let three = Three::new(echo().await).await;
    let (hokkaido, osaka, kyushu) = three.sites(ProxyLimits::default()).await;
    let mut app = three.connect().await;
    ping(&mut app, b"before").await;
    osaka.drain.begin();
    ping(&mut app, b"while it stops").await;
    app.write_all(b"last").await.unwrap();
    app.shutdown().await.unwrap();
    let left = tokio::spawn(async move { osaka.drain.wait(lab::DEADLINE).await.left });
    let mut heard = Vec::new();
    within(app.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last");
    assert_eq!(left.await.unwrap(), 0);
    three.assert_refused().await;
    drop(kyushu);
    // Nor does a hub wait for what carries nothing.
    assert_eq!(hokkaido.drain.wait(lab::DEADLINE).await.left, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_stops_does_not_wait_for_quiet_lanes() {
    let three = Three::new(echo().await).await;
    let (hokkaido, _osaka, _kyushu) = three.sites(ProxyLimits::default()).await;
    let mut app = three.connect().await;
    ping(&mut app, b"one").await;
    assert_eq!(hokkaido.drain.wait(lab::DEADLINE).await.left, 0);
}
