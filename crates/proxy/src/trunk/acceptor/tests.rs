use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::{
    config::ProxyLimits,
    testing::{self, Dialer, Site, pass, settle, until, within},
    trunk::{Connector, DialError, TrunkHandle, TrunkStream},
};

const LANE: &[&[u8]] = &[b"renkei-trunk/1.1"];

/// A dial of these tests fails for the path.
#[derive(Debug)]
struct NoPath;

impl DialError for NoPath {
    fn no_trunks() -> Self {
        Self
    }

    fn is_of_the_path(&self) -> bool {
        true
    }

    fn is_certain(&self) -> bool {
        false
    }

    fn label(&self) -> &'static str {
        "no_path"
    }
}

/// An acceptor, and a connector that dials its lanes.
struct Lab {
    osaka: Site,
    hokkaido: Site,
    pair: Pair,
    acceptor: Arc<Acceptor>,
    connector: Connector,
    dialer: Arc<Dialer<NoPath>>,
    trunks: UnboundedReceiver<TrunkEvents>,
}

impl Lab {
    fn new() -> Self {
        let (osaka, hokkaido) = Site::two(ProxyLimits::default(), "/broker");
        let pair = testing::pair(&osaka, &hokkaido, "/broker");
        let acceptor = Acceptor::new(hokkaido.trunks.clone());
        let (dialer, lanes) = Dialer::new(&pair, (&osaka, &hokkaido), LANE);
        Self {
            connector: Connector::new(osaka.trunks.clone()),
            trunks: testing::accept_lanes(acceptor.clone(), &pair, lanes),
            acceptor,
            dialer,
            pair,
            osaka,
            hokkaido,
        }
    }

    /// A trunk, with the events of both ends: the caller's first.
    async fn trunk(&mut self) -> (TrunkEvents, TrunkEvents) {
        testing::trunk(&self.connector, &self.pair, &self.dialer, &mut self.trunks).await
    }

    /// Trunks that the acceptor knows, and those that it shows.
    fn known(&self) -> (usize, usize) {
        let shown = self.hokkaido.trunks.table.trunks();
        (self.acceptor.known().len(), shown.len())
    }
}

/// Waits for the next event that is no stream.
async fn next(events: &mut TrunkEvents) -> String {
    match within(events.next()).await {
        Some(TrunkEvent::Ended(reason)) => format!("ended: {reason}"),
        Some(event) => format!("{event:?}"),
        None => "none".to_owned(),
    }
}

async fn until_ended(events: &mut TrunkEvents) -> String {
    loop {
        let event = next(events).await;
        if event.starts_with("ended") || event == "none" {
            return event;
        }
    }
}

/// Opens a stream at one end and takes it at the other.
async fn opened(by: &TrunkHandle, at: &mut TrunkEvents) -> [TrunkStream; 2] {
    let mut stream = by.open(Bytes::from_static(b"target")).unwrap();
    stream.write_all(b"hello").await.unwrap();
    let incoming = within(at.accept()).await.unwrap();
    assert_eq!(incoming.target, "target");
    let mut taken = incoming.accept().unwrap();
    let mut heard = [0; 5];
    within(taken.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");
    [stream, taken]
}

#[tokio::test]
async fn a_connection_that_never_says_what_it_is_for_is_given_up_in_its_time() {
    let lab = Lab::new();
    let ends = (&*lab.osaka.context, &*lab.hokkaido.context);
    let (silent, accepted, _socket) = testing::connect(&lab.pair, ends, LANE).await;
    let limit = lab.hokkaido.context.limits.handshake_timeout;
    let (acceptor, pair) = (lab.acceptor.clone(), lab.pair.clone());
    let joining = tokio::spawn(async move {
        let joined = acceptor.join(accepted.connection, accepted.credentials, &pair);
        joined.await.map(drop)
    });
    settle().await;
    pass(limit / 2).await;
    settle().await;
    assert!(!joining.is_finished(), "it has time left");
    pass(limit / 2).await;
    let given_up = within(joining).await.unwrap();
    assert_eq!(given_up.unwrap_err().kind(), io::ErrorKind::TimedOut);
    // The other end notices; how, is up to TLS.
    let mut silent = silent.connection.into_stream();
    let _ = within(silent.read_to_end(&mut Vec::new())).await;
    assert_eq!(lab.known(), (0, 0));
}

#[tokio::test]
async fn the_first_lane_brings_the_trunk_and_the_next_one_belongs_to_it() {
    let mut lab = Lab::new();
    let (own, mut theirs) = lab.trunk().await;
    assert_eq!(next(&mut theirs).await, "Ready");
    let _first = opened(own.handle(), &mut theirs).await;
    lab.dialer.cut();
    assert_eq!(next(&mut theirs).await, "Suspended");
    assert_eq!(next(&mut theirs).await, "Ready");
    let _second = opened(own.handle(), &mut theirs).await;
    assert_eq!(lab.dialer.dialled(), 2);
    assert!(lab.trunks.try_recv().is_err(), "it is no other trunk");
    assert_eq!(lab.known(), (1, 1));
}

#[tokio::test]
async fn a_trunk_that_gets_no_lane_back_ends_after_its_grace_time_and_is_forgotten() {
    let mut lab = Lab::new();
    let (own, mut theirs) = lab.trunk().await;
    assert_eq!(next(&mut theirs).await, "Ready");
    let streams = opened(own.handle(), &mut theirs).await;
    lab.dialer.refuse(true);
    lab.dialer.cut();
    assert_eq!(next(&mut theirs).await, "Suspended");
    let grace = lab.hokkaido.context.limits.grace;
    pass(grace / 2).await;
    settle().await;
    assert_eq!(lab.known().0, 1, "it may come back");
    pass(grace / 2 + Duration::from_secs(1)).await;
    let ended = until_ended(&mut theirs).await;
    assert!(ended.starts_with("ended"), "{ended}");
    drop(streams);
    until("forgotten", || lab.known() == (0, 0)).await;
}

#[tokio::test]
async fn a_drain_tells_the_caller_to_open_no_more_streams() {
    let mut lab = Lab::new();
    let (mut own, mut theirs) = lab.trunk().await;
    let _streams = opened(own.handle(), &mut theirs).await;
    lab.hokkaido.drain.begin();
    while next(&mut own).await != "GoingAway" {}
    assert!(own.handle().open(Bytes::new()).is_err());
}

/// Without one who serves its streams, a trunk that stays open is a trap for its caller.
#[tokio::test]
async fn a_trunk_whose_task_panics_ends_at_both_ends() {
    let mut lab = Lab::new();
    let (mut own, mut theirs) = lab.trunk().await;
    let serving = tokio::spawn(async move {
        theirs.accept().await;
        panic!("out of order");
    });
    let mut stream = own.handle().open(Bytes::from_static(b"target")).unwrap();
    stream.write_all(b"hello").await.unwrap();
    assert!(within(serving).await.unwrap_err().is_panic());
    let ended = until_ended(&mut own).await;
    assert!(ended.contains("is not served any more"), "{ended}");
    until("forgotten", || lab.known() == (0, 0)).await;
}
