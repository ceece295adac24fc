//! Who is refused, how the refused one notices, and what this side says about it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::sync::Arc;

use lab::{
    Lab, Node, assert_reset, backend, echo, eventually, id, identities, provider, svid,
    time::{pass, settle},
    within,
};
use renkei_spiffe::{BundleSet, X509Svid, anonymous_client_side, client_side};
use renkei_testkit::{Fault, TestAuthority, free_address};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

fn trust(authority: &TestAuthority) -> Arc<BundleSet> {
    Arc::new([lab::bundle(authority)].into_iter().collect())
}

/// A caller that is no Renkei proxy. With TLS 1.3 it learns of its refusal when it reads.
async fn call(lab: &Lab, config: Arc<ClientConfig>, sni: &str) -> std::io::Result<String> {
    let mut stream = handshake(lab, config, sni).await?;
    stream.write_all(b"hello").await?;
    let mut answer = [0; 5];
    within(stream.read_exact(&mut answer)).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn handshake(
    lab: &Lab,
    config: Arc<ClientConfig>,
    sni: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(lab.gateway).await.unwrap();
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    within(TlsConnector::from(config).connect(name, tcp)).await
}

fn with_svid(lab: &Lab, svid: &X509Svid) -> Arc<ClientConfig> {
    let callee = Arc::new(id("hokkaido.example/broker"));
    let trusts = trust(&lab.hokkaido_ca);
    client_side(&provider(), svid, trusts, callee, &[])
        .unwrap()
        .config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_without_a_good_identity_see_an_alert_and_are_told_apart_here() {
    let lab = Lab::new(&[echo().await]);
    let hokkaido = lab.hokkaido().await;
    let sni = "broker.hokkaido.example";
    let good = svid(lab.osaka_ca.issue("/collector"));
    assert_eq!(
        call(&lab, with_svid(&lab, &good), sni).await.unwrap(),
        "hello"
    );

    let namesake = TestAuthority::new("osaka.example");
    let stranger = TestAuthority::new("nagoya.example");
    let cases = [
        (
            svid(lab.osaka_ca.issue("/intruder")),
            "not_allowed",
            "AccessDenied",
        ),
        (
            svid(namesake.issue("/collector")),
            "untrusted_ca",
            "UnknownCA",
        ),
        (
            svid(stranger.issue("/collector")),
            "unknown_trust_domain",
            "UnknownCA",
        ),
        (
            svid(lab.osaka_ca.issue_with("/collector", Fault::Expired)),
            "expired",
            "CertificateExpired",
        ),
    ];
    for (caller, reason, alert) in cases {
        let error = call(&lab, with_svid(&lab, &caller), sni).await.unwrap_err();
        assert!(error.to_string().contains(alert), "{reason}: {error}");
        hokkaido.refusal(reason).await;
    }
    let callee = Arc::new(id("hokkaido.example/broker"));
    let anonymous =
        anonymous_client_side(&provider(), trust(&lab.hokkaido_ca), callee, &[]).unwrap();
    let error = call(&lab, anonymous.config, sni).await.unwrap_err();
    assert!(error.to_string().contains("CertificateRequired"), "{error}");
    hokkaido.refusal("no_certificate").await;
    let counts = hokkaido.proxy.refusals().counts();
    assert!(
        counts
            .iter()
            .all(|count| (count.service.as_str(), count.count) == ("broker", 1))
    );
    assert_eq!(counts.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_is_refused_and_other_names_go_elsewhere() {
    let lab = Lab::new(&[echo().await]);
    let hokkaido = lab.hokkaido().await;
    let mut plain = TcpStream::connect(lab.gateway).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let _ = within(plain.read_to_end(&mut all)).await;
    assert!(all.is_empty());
    hokkaido.refusal("plaintext").await;

    let caller = svid(lab.osaka_ca.issue("/collector"));
    let error = handshake(&lab, with_svid(&lab, &caller), "other.hokkaido.example").await;
    let error = error.expect_err("what answers here in the test is no TLS server");
    assert!(error.to_string().contains("corrupt message"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_is_not_allowed_reads_why_at_its_own_site() {
    let lab = Lab::new(&[echo().await]);
    let text = lab.hokkaido_text("osaka.example/other");
    let hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
    let osaka = lab.osaka().await;
    lab.assert_refused().await;
    let sentence = osaka.refusal("peer_denied").await;
    assert_eq!(
        sentence,
        "hokkaido.example/broker refused osaka.example/collector: its policy does not allow this \
         caller"
    );
    hokkaido.refusal("not_allowed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_identity_than_the_callees_is_refused_by_the_caller() {
    let lab = Lab::new(&[echo().await]);
    let namesake = TestAuthority::new("hokkaido.example");
    let wrong = identities(&namesake, &["/broker"], &[&lab.osaka_ca]);
    let text = lab.hokkaido_text("osaka.example/collector");
    let _hokkaido = Node::start(&text, wrong).await;
    let osaka = lab.osaka().await;
    lab.assert_refused().await;
    let sentence = osaka.refusal("untrusted_ca").await;
    assert!(
        sentence.contains("was not issued by a CA of hokkaido.example"),
        "{sentence}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_cannot_be_reached_is_named() {
    let lab = Lab::new(&[free_address()]);
    let osaka = lab.osaka().await;
    lab.assert_refused().await;
    let sentence = osaka.refusal("connection_refused").await;
    assert!(sentence.contains(&lab.gateway.to_string()), "{sentence}");

    osaka
        .identities
        .send_modify(|all| Arc::make_mut(all).svids.clear());
    eventually("not ready", || (!osaka.readiness.is_ready()).then_some(())).await;
    lab.assert_refused().await;
    let sentence = osaka.refusal("no_identity").await;
    assert_eq!(sentence, "osaka.example/collector has no identity");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_is_down_is_passed_over_or_resets_the_caller() {
    let dead = free_address();
    let lab = Lab::new(&[dead, echo().await]);
    let (hokkaido, _osaka) = (lab.hokkaido().await, lab.osaka().await);
    for _ in 0..3 {
        lab::ping(&mut lab.connect().await, b"hello").await;
    }
    let down = Lab {
        backends: vec![dead],
        ..lab
    };
    hokkaido
        .apply(&down.hokkaido_text("osaka.example/collector"))
        .await
        .unwrap();
    down.assert_refused().await;
    let sentence = hokkaido.refusal("backend_unavailable").await;
    assert!(sentence.contains(&dead.to_string()), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_closes_early_ends_the_connection_cleanly() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = (lab.hokkaido().await, lab.osaka().await);
    let mut app = lab.connect().await;
    drop(within(connections.recv()).await.unwrap());
    assert_eq!(within(app.read(&mut [0; 8])).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_session_cut_short_is_a_reset_for_the_backend() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let _hokkaido = lab.hokkaido().await;
    let caller = svid(lab.osaka_ca.issue("/collector"));
    let config = with_svid(&lab, &caller);
    let mut stream = handshake(&lab, config, "broker.hokkaido.example")
        .await
        .unwrap();
    stream.write_all(b"half a file").await.unwrap();
    stream.flush().await.unwrap();
    let mut service = within(connections.recv()).await.unwrap();
    service.read_exact(&mut [0; 11]).await.unwrap();
    // A FIN without close_notify.
    let (mut tcp, _) = stream.into_inner();
    tcp.shutdown().await.unwrap();
    assert_reset(&mut service).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tls_session_cut_short_is_a_reset_for_the_application() {
    let lab = Lab::new(&[free_address()]);
    let gateway = TcpListener::bind(lab.gateway).await.unwrap();
    let osaka = lab.osaka().await;
    let broker = svid(lab.hokkaido_ca.issue("/broker"));
    let caller = Arc::new(id("osaka.example/collector"));
    let trusts = trust(&lab.osaka_ca);
    let side = renkei_spiffe::server_side(&provider(), &broker, trusts, caller, &[]).unwrap();
    let mut app = lab.connect().await;
    let (tcp, _) = gateway.accept().await.unwrap();
    let mut stream = tokio_rustls::TlsAcceptor::from(side.config)
        .accept(tcp)
        .await
        .unwrap();
    stream.write_all(b"half a file").await.unwrap();
    stream.flush().await.unwrap();
    within(app.read_exact(&mut [0; 11])).await.unwrap();
    let (mut tcp, _) = stream.into_inner();
    tcp.shutdown().await.unwrap();
    assert_reset(&mut app).await;
    eventually("closed", || (osaka.open() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_of_another_user_is_refused_at_the_local_listener() {
    let lab = Lab::new(&[echo().await]);
    let _hokkaido = lab.hokkaido().await;
    let own = rustix::process::geteuid().as_raw();
    let other = own + 4_321;
    let text = lab.osaka_text_for(other);
    let osaka = Node::start(&text, lab.osaka_identities()).await;
    lab.assert_refused().await;
    let sentence = osaka.refusal("other_user").await;
    assert!(
        sentence.contains(&format!("unix:uid:{other}")),
        "{sentence}"
    );
}

#[tokio::test]
async fn peers_that_say_nothing_make_room_for_others() {
    let lab = Lab::new(&[echo().await]);
    let limits = renkei_proxy::ProxyLimits {
        // One at a time of each address.
        handshakes: 2,
        // More than any of the waiting here.
        handshake_timeout: 4 * lab::DEADLINE,
        ..Default::default()
    };
    let text = lab.hokkaido_text("osaka.example/collector");
    let hokkaido = Node::start_with(&text, lab.hokkaido_identities(), limits, None).await;
    let mut silent = TcpStream::connect(lab.gateway).await.unwrap();
    let mut slow = TcpStream::connect(lab.gateway).await.unwrap();
    slow.write_all(&[0x16, 3, 1]).await.unwrap();
    let caller = svid(lab.osaka_ca.issue("/collector"));
    let called = call(&lab, with_svid(&lab, &caller), "broker.hokkaido.example");
    let given_up = async {
        while hokkaido.reasons().len() < 2 {
            settle().await;
            pass(limits.handshake_timeout / 8).await;
        }
    };
    let (answer, ()) = tokio::join!(called, given_up);
    assert_eq!(answer.unwrap(), "hello");
    for stream in [&mut silent, &mut slow] {
        let _ = within(stream.read_to_end(&mut Vec::new())).await;
    }
    assert_eq!(hokkaido.reasons(), ["handshake_timeout"; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_slow_keeps_only_itself_waiting() {
    let lab = Lab::new(&[echo().await]);
    let limits = renkei_proxy::ProxyLimits {
        handshakes: 8,
        handshake_timeout: std::time::Duration::from_secs(60),
        ..Default::default()
    };
    let text = lab.hokkaido_text("osaka.example/collector");
    let _hokkaido = Node::start_with(&text, lab.hokkaido_identities(), limits, None).await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 77], 0).into()).unwrap();
        slow.push(socket.connect(lab.gateway).await.unwrap());
    }
    let caller = svid(lab.osaka_ca.issue("/collector"));
    let answer = call(&lab, with_svid(&lab, &caller), "broker.hokkaido.example").await;
    assert_eq!(answer.unwrap(), "hello");
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_was_not_renewed_is_not_used() {
    let lab = Lab::new(&[echo().await]);
    let _hokkaido = lab.hokkaido().await;
    let mut old = lab.osaka_identities();
    let expired = svid(lab.osaka_ca.issue_with("/collector", Fault::Expired));
    old.svids.insert(expired.id().clone(), expired);
    let osaka = Node::start(&lab.osaka_text(), old).await;
    lab.assert_refused().await;
    let sentence = osaka.refusal("own_svid_expired").await;
    assert!(sentence.contains("was not renewed"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callee_without_an_identity_says_so_in_the_handshake() {
    let lab = Lab::new(&[echo().await]);
    let mut without = lab.hokkaido_identities();
    without.svids.clear();
    let text = lab.hokkaido_text("osaka.example/collector");
    let hokkaido = Node::start(&text, without).await;
    let osaka = lab.osaka().await;
    lab.assert_refused().await;
    let sentence = osaka.refusal("peer_no_identity").await;
    assert_eq!(
        sentence,
        "hokkaido.example/broker has no valid identity at this time; the log of \
         hokkaido.example says why"
    );
    hokkaido.refusal("no_identity").await;
    let caller = svid(lab.osaka_ca.issue("/collector"));
    let name = "broker.hokkaido.example";
    let error = call(&lab, with_svid(&lab, &caller), name)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("InternalError"), "{error}");
    hokkaido
        .identities
        .send_replace(Arc::new(lab.hokkaido_identities()));
    lab::ping(&mut lab.connect().await, b"with one").await;
}
