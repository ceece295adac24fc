use tokio::{io::AsyncReadExt, net::TcpStream};

use super::*;
use crate::{
    admission::Admission,
    config::ProxyLimits,
    testing::{self, Frozen, Site, until},
    trunk::{Acceptor, Connector},
};

const SERVER: &str = "/renkei/server";

/// Hokkaido, which relays for no one.
fn desired() -> Arc<Desired> {
    let text = "site: hokkaido\n\
                trust_domain: hokkaido.example\n\
                gateway: {listen: 127.0.0.1:7443}\n\
                peers: {osaka.example: {bundle: osaka.json, gateway: 'osaka.example:7443'}}\n";
    let site = renkei_site::parse("site.yaml", text).unwrap();
    Arc::new(Desired {
        site: Arc::new(site.proxy_part(1, std::collections::BTreeMap::new())),
        policies: std::collections::BTreeMap::new(),
    })
}

/// The ClientHello that comes by a connection.
async fn hello(mut tcp: TcpStream) -> PendingHandshake {
    let (mut received, mut acceptor) =
        (bytes::BytesMut::new(), rustls::server::Acceptor::default());
    loop {
        let before = received.len();
        tcp.read_buf(&mut received).await.unwrap();
        acceptor.read_tls(&mut &received[before..]).unwrap();
        if let Some(accepted) = acceptor.accept().ok().flatten() {
            return PendingHandshake {
                accepted,
                tcp,
                received: received.freeze(),
            };
        }
    }
}

/// Otherwise a process that stops would end before the site has read why it was refused.
#[tokio::test]
async fn a_drain_waits_until_a_refused_site_has_read_its_alert() {
    let (osaka, hokkaido) = Site::two(ProxyLimits::default(), SERVER);
    let admission = Arc::new(Admission::new(&hokkaido.context.limits));
    let hub = Hub::new(
        (&hokkaido.context, &admission),
        Arc::new(Connector::new(hokkaido.trunks.clone())),
        Acceptor::new(hokkaido.trunks.clone()),
    );
    // The time in which an alert is to be read does not pass.
    let frozen = Frozen::new();
    let (near, far) = testing::tcp().await;
    let source = Source::direct(far.peer_addr().unwrap());
    let arrival = admission.arrival(&source).unwrap();
    let held = (
        hokkaido.drain_watch().guard(),
        admission.handshake(&source, arrival).await,
    );
    let accepting = tokio::spawn(async move {
        hub.accept(hello(far).await, desired(), source, held).await;
    });
    let (own, callee) = (osaka.id(SERVER), hokkaido.id(SERVER));
    let lane = testing::dial(near, (&own, &osaka.context), &callee, &ALPN_RELAY).await;
    let refusals = &hokkaido.context.refusals;
    until("the refusal", || !refusals.last().is_empty()).await;
    assert_eq!(refusals.last()[0].reason, "not_relayed");
    assert_eq!(hokkaido.drain_watch().open(), 1, "the alert is on its way");
    let mut stream = lane.connection.into_stream();
    let alert = stream.read(&mut [0; 1]).await.unwrap_err();
    assert!(alert.to_string().contains("AccessDenied"), "{alert}");
    drop(stream);
    accepting.await.unwrap();
    drop(frozen);
    assert_eq!(hokkaido.drain_watch().open(), 0);
}
