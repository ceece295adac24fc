use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::{
    config::ProxyLimits,
    hub::{ALPN_RELAY, links::Links},
    testing::{self, Dialer, Frozen, Site, until, within},
    tls::DialFailure,
    trunk::{Acceptor, Connector, TrunkEvents},
};

const SERVER: &str = "/renkei/server";

/// A hub, and the links that a site makes to it.
struct Lab {
    hokkaido: Site,
    pair: crate::identity::Pair,
    connector: Connector,
    dialer: Arc<Dialer<DialFailure>>,
    trunks: UnboundedReceiver<TrunkEvents>,
    _osaka: Site,
}

impl Lab {
    fn new() -> Self {
        let (osaka, hokkaido) = Site::two(ProxyLimits::default(), SERVER);
        let pair = testing::pair(&osaka, &hokkaido, SERVER);
        let (dialer, lanes) = Dialer::new(&pair, (&osaka, &hokkaido), &ALPN_RELAY);
        let acceptor = Acceptor::new(hokkaido.trunks.clone());
        Self {
            connector: Connector::new(osaka.trunks.clone()),
            trunks: testing::accept_lanes(acceptor, &pair, lanes),
            hokkaido,
            pair,
            dialer,
            _osaka: osaka,
        }
    }

    /// A link, with the events of both ends: the site's first.
    async fn link(&mut self) -> (TrunkEvents, TrunkEvents) {
        testing::trunk(&self.connector, &self.pair, &self.dialer, &mut self.trunks).await
    }
}

/// The link that a caller is sent by may end in the moment in which its stream is opened, before
/// the task that follows the link has heard of it.
#[tokio::test]
async fn a_caller_that_meets_a_link_as_it_ends_waits_for_the_next() {
    // The next link comes in time, however slow this machine is.
    let _frozen = Frozen::new();
    let mut lab = Lab::new();
    let end = LinkEnd::Site(lab.pair.caller.clone());
    let links = Links::default();
    links.follow(&[end.clone()].into(), &Default::default());
    let relayed = links.get(end.id()).unwrap();
    let (_site, events) = lab.link().await;
    let ending = events.handle().clone();
    tokio::spawn(relayed.clone().follow(events, drop));
    until("linked", || relayed.state.condition().linked).await;
    let context = lab.hokkaido.context.clone();
    let from = Source::direct("192.0.2.7:40000".parse().unwrap());
    let received = Bytes::from_static(b"the caller's first bytes");
    let mut reaching = tokio::spawn({
        let (relayed, context, received) = (relayed.clone(), context.clone(), received.clone());
        async move {
            ending.close(renkei_trunk::Code::STOPPING, "it ends");
            reach(&relayed, received, from, &context).await
        }
    });
    until("lost", || !relayed.state.condition().linked).await;
    let (mut site, events) = lab.link().await;
    tokio::spawn(relayed.clone().follow(events, drop));
    let incoming = tokio::select! {
        incoming = site.accept() => incoming.unwrap(),
        reached = &mut reaching => match reached.unwrap() {
            Ok(_) => panic!("no one has answered"),
            Err(NoWay { sentence, .. }) => panic!("it did not wait: {sentence}"),
        },
    };
    assert_eq!(incoming.target, from.to_string());
    let mut stream = incoming.accept().unwrap();
    let mut heard = vec![0; received.len()];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, received);
    stream.write_all(b"the answer").await.unwrap();
    let (_stream, answer) = match within(reaching).await.unwrap() {
        Ok(reached) => reached,
        Err(NoWay { sentence, .. }) => panic!("{sentence}"),
    };
    assert_eq!(answer, "the answer");
}
