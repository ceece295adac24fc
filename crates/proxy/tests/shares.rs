//! No address keeps the rest out by taking all places of one kind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use lab::{Lab, Node, echo, ping, provider, three::Three, within};
use renkei_proxy::ProxyLimits;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
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
