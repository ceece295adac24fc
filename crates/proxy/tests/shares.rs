//! No address, caller or gateway keeps the rest out by taking all places of one kind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lab::{Lab, Node, echo, eventually, identities, ping, provider, three::Three, within};
use renkei_proxy::ProxyLimits;
use renkei_testkit::{TestAuthority, free_address};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};

/// Longer than any of these tests waits.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// A connection from 127.0.0.`host`; nothing if it is refused at once.
async fn from(host: u8, to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, host], 0).into()).unwrap();
    socket.connect(to).await.ok()
}

/// The first message of a TLS client that asks for this name.
fn client_hello(name: &'static str) -> Vec<u8> {
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_of_some_addresses_leave_places_for_others() {
    let lab = Lab::new(&[echo().await]);
    let limits = ProxyLimits {
        connections: 64,
        handshake_timeout: FOR_EVER,
        ..ProxyLimits::default()
    };
    let text = lab.hokkaido_text("osaka.example/collector");
    let hokkaido = Node::start_with(&text, lab.hokkaido_identities(), limits, None).await;
    let mut silent = Vec::new();
    for host in 71..=75 {
        for _ in 0..32 {
            silent.extend(from(host, lab.gateway).await);
        }
    }
    let sentence = hokkaido.refusal("address_limit").await;
    assert!(sentence.starts_with("127.0.0.7"), "{sentence}");
    let _osaka = lab.osaka().await;
    ping(&mut lab.connect().await, b"from another address").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_streams_of_one_caller_leave_places_for_others() {
    let lab = Lab::new(&[echo().await]);
    let limits = ProxyLimits {
        connections: 64,
        ..ProxyLimits::default()
    };
    let text = lab.hokkaido_text("osaka.example/collector, osaka.example/reader");
    let hokkaido = Node::start_with(&text, lab.hokkaido_identities(), limits, None).await;
    let listen = free_address();
    let text = format!(
        "{}  reader:\n    selectors: ['unix:uid:{}']\n    \
         uses: {{hokkaido.example/broker: '{listen}'}}\n",
        lab.osaka_text(),
        rustix::process::geteuid().as_raw(),
    );
    let own = identities(
        &lab.osaka_ca,
        &["/collector", "/reader"],
        &[&lab.hokkaido_ca],
    );
    let osaka = Node::start(&text, own).await;
    let mut idle = Vec::new();
    loop {
        let Ok(mut app) = TcpStream::connect(lab.listen).await else {
            break;
        };
        let asked = async {
            app.write_all(b"idle").await?;
            app.read_exact(&mut [0; 4]).await
        };
        if within(asked).await.is_err() {
            break;
        }
        idle.push(app);
        assert!(idle.len() <= 64, "nothing limits the caller");
    }
    assert!((32..60).contains(&idle.len()), "{}", idle.len());
    hokkaido.refusal("caller_limit").await;
    let told = osaka.refusal("peer_unavailable").await;
    assert!(told.contains("which is its share now"), "{told}");
    let mut reader = TcpStream::connect(listen).await.unwrap();
    ping(&mut reader, b"of another caller").await;
    // What is given back can be taken again.
    idle.truncate(8);
    eventually("the streams end", || (hokkaido.open() <= 9).then_some(())).await;
    ping(&mut lab.connect().await, b"again").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_behind_a_hub_are_limited_by_their_own_addresses() {
    let three = Three::new(echo().await).await;
    let limits = ProxyLimits {
        handshakes: 4,
        handshake_timeout: FOR_EVER,
        ..ProxyLimits::default()
    };
    let (hokkaido, osaka, _kyushu) = three.sites(limits).await;
    let hello = client_hello("store.osaka.example");
    let mut slow = Vec::new();
    for _ in 0..40 {
        let mut stream = from(77, three.gateway).await.expect("a connection");
        stream.write_all(&hello).await.unwrap();
        slow.push(stream);
    }
    // As many as may be in their handshake are: the site has answered them.
    for stream in &mut slow[..1] {
        within(stream.read_u8()).await.unwrap();
    }
    ping(&mut three.connect().await, b"past the slow ones").await;
    let relayed = || hokkaido.proxy.status();
    assert!(relayed().await.relays[0].link.connections >= 2);
    assert_eq!(osaka.reasons(), Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_hangs_leaves_places_to_dial_others() {
    let lab = Lab::new(&[echo().await]);
    let _hokkaido = lab.hokkaido().await;
    let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listens: Vec<SocketAddr> = (0..8).map(|_| free_address()).collect();
    let uses = listens.iter().enumerate();
    let uses: Vec<String> = uses
        .map(|(n, listen)| format!("kyushu.example/s{n}: '{listen}'"))
        .collect();
    let text = format!(
        "site: osaka\ntrust_domain: osaka.example\npeers:\n  \
         hokkaido.example: {{bundle: h.json, gateway: '{}'}}\n  \
         kyushu.example: {{bundle: k.json, gateway: '{}'}}\n\
         workloads:\n  collector:\n    selectors: ['unix:uid:{}']\n    \
         uses: {{hokkaido.example/broker: '{}', {}}}\n",
        lab.gateway,
        hanging.local_addr().unwrap(),
        rustix::process::geteuid().as_raw(),
        lab.listen,
        uses.join(", ")
    );
    let limits = ProxyLimits {
        dials: 4,
        handshake_timeout: FOR_EVER,
        ..ProxyLimits::default()
    };
    let kyushu = TestAuthority::new("kyushu.example");
    let trusts = [&lab.hokkaido_ca, &kyushu];
    let own = identities(&lab.osaka_ca, &["/collector"], &trusts);
    let _osaka = Node::start_with(&text, own, limits, None).await;
    let mut waiting = Vec::new();
    for listen in listens {
        waiting.push(TcpStream::connect(listen).await.unwrap());
    }
    // The gateway has accepted what it may have, and says nothing.
    let mut accepted = Vec::new();
    for _ in 0..2 {
        accepted.push(within(hanging.accept()).await.unwrap());
    }
    ping(&mut lab.connect().await, b"to another gateway").await;
}
