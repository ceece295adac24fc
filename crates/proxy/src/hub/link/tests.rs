use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc::UnboundedReceiver,
};

use super::*;
use crate::{
    config::ProxyLimits,
    hub::link_state::Condition,
    testing::{self, Dialer, Site, pass, settle, until, within},
    trunk::{Acceptor, TrunkEvents},
};

const SERVER: &str = "/renkei/server";

/// A dialer that fails at once, and keeps the times.
#[derive(Default)]
struct Failing {
    dialled: AtomicUsize,
    times: Mutex<Vec<Instant>>,
}

impl LaneDialer for Failing {
    type Error = DialFailure;

    fn dial(&self) -> BoxFuture<'_, Result<LaneConnection, DialFailure>> {
        self.dialled.fetch_add(1, Ordering::SeqCst);
        self.times.lock().unwrap().push(Instant::now());
        Box::pin(async { Err(DialFailure::NoGateway) })
    }

    fn is_lane(&self, _alpn: Option<&[u8]>) -> bool {
        true
    }

    fn failed(&self, _error: &DialFailure) {}
}

impl Failing {
    fn dialled(&self) -> usize {
        self.dialled.load(Ordering::SeqCst)
    }
}

/// The link of `site` to the hub, with lanes of this dialer.
fn keep<D>(site: &Site, hub: &Site, dialer: &Arc<D>, bridge: &Arc<LoopbackBridge>) -> HubLink
where
    D: LaneDialer<Error = DialFailure>,
{
    let target = Target {
        own: site.id(SERVER),
        far: hub.id(SERVER),
        gateway: Some(HostPort::parse("hub.example:7443").unwrap()),
    };
    let state = Arc::new(LinkState::new(&target.name(), "it is being dialled"));
    let parts = LinkParts {
        context: site.context.clone(),
        admission: Arc::new(Admission::new(&site.context.limits)),
        connector: Arc::new(Connector::new(site.trunks.clone())),
        bridge: bridge.clone(),
    };
    HubLink::keep(target, state, dialer.clone(), parts)
}

fn condition(link: &HubLink) -> Condition {
    link.state.condition()
}

fn reason(link: &HubLink) -> String {
    condition(link).reason.unwrap_or_default()
}

/// Far less than the shortest backoff.
async fn moment() {
    tokio::time::sleep(FIRST_PAUSE / 100).await;
}

#[tokio::test(start_paused = true)]
async fn it_says_what_is_missing_and_dials_as_soon_as_that_is_there() {
    let (osaka, hokkaido) = (Site::new("osaka.example"), Site::new("hokkaido.example"));
    let dialer = Arc::<Failing>::default();
    let link = keep(&osaka, &hokkaido, &dialer, &Arc::default());
    moment().await;
    assert_eq!(reason(&link), "osaka.example/renkei/server has no identity");
    osaka.identify(SERVER);
    moment().await;
    assert_eq!(reason(&link), "the bundle of hokkaido.example is not known");
    assert_eq!(dialer.dialled(), 0);
    osaka.trust(&hokkaido);
    moment().await;
    assert_eq!(dialer.dialled(), 1, "without a pause");
    assert!(reason(&link).contains("no gateway"), "{}", reason(&link));
}

#[tokio::test(start_paused = true)]
async fn pauses_between_attempts_double_up_to_the_longest() {
    let (osaka, hokkaido) = Site::two(ProxyLimits::default(), SERVER);
    let dialer = Arc::<Failing>::default();
    let _link = keep(&osaka, &hokkaido, &dialer, &Arc::default());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let times = dialer.times.lock().unwrap().clone();
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.len() > 6, "{pauses:?}");
    for (n, pause) in (0..).zip(&pauses) {
        let expected = LONGEST_PAUSE.min(FIRST_PAUSE * 2_u32.saturating_pow(n));
        let jitter = expected.mul_f64(0.89)..expected.mul_f64(1.11);
        assert!(jitter.contains(pause), "pause {n}: {pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_dropped_or_drained_is_dialled_no_more() {
    for drained in [false, true] {
        let (osaka, hokkaido) = Site::two(ProxyLimits::default(), SERVER);
        let dialer = Arc::<Failing>::default();
        let link = keep(&osaka, &hokkaido, &dialer, &Arc::default());
        moment().await;
        assert_eq!(dialer.dialled(), 1);
        match drained {
            true => osaka.drain.begin(),
            false => drop(link),
        }
        tokio::time::sleep(LONGEST_PAUSE * 10).await;
        assert_eq!(dialer.dialled(), 1, "drained: {drained}");
    }
}

/// A link that is up, with a gateway of the test's behind it.
struct Linked {
    osaka: Site,
    /// The events of the link at the hub.
    events: TrunkEvents,
    trunks: UnboundedReceiver<TrunkEvents>,
    dialer: Arc<Dialer<DialFailure>>,
    link: HubLink,
    gateway: TcpListener,
    bridge: Arc<LoopbackBridge>,
    _hokkaido: Site,
}

impl Linked {
    async fn new(limits: ProxyLimits) -> Self {
        let (osaka, hokkaido) = Site::two(limits, SERVER);
        let pair = testing::pair(&osaka, &hokkaido, SERVER);
        let (dialer, lanes) = Dialer::new(&pair, (&osaka, &hokkaido), &ALPN_RELAY);
        let acceptor = Acceptor::new(hokkaido.trunks.clone());
        let mut trunks = testing::accept_lanes(acceptor, &pair, lanes);
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bridge = Arc::<LoopbackBridge>::default();
        bridge.set_gateway(gateway.local_addr().ok());
        let link = keep(&osaka, &hokkaido, &dialer, &bridge);
        let events = within(trunks.recv()).await.unwrap();
        until("linked", || condition(&link).linked).await;
        Self {
            osaka,
            events,
            trunks,
            dialer,
            link,
            gateway,
            bridge,
            _hokkaido: hokkaido,
        }
    }

    /// The hub brings a connection.
    fn bring(&self) -> crate::trunk::TrunkStream {
        let from = Bytes::from_static(b"192.0.2.7:40000");
        self.events.handle().open(from).unwrap()
    }
}

#[tokio::test]
async fn what_the_hub_brings_reaches_the_gateway_up_to_the_limit() {
    let limits = ProxyLimits {
        connections: 1,
        ..ProxyLimits::default()
    };
    let linked = Linked::new(limits).await;
    let mut first = linked.bring();
    first.write_all(b"hello").await.unwrap();
    let (mut taken, peer) = within(linked.gateway.accept()).await.unwrap();
    let mut heard = [0; 5];
    within(taken.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"hello");
    // The gateway takes it for one of the hub's, and not for one of this node. The caller's own
    // address is the hub's word.
    let source = linked.bridge.source(peer);
    assert_ne!(source.address, peer);
    assert_eq!(source.caller().to_string(), "192.0.2.7:40000");
    assert_eq!(linked.link.state.open(), 1);
    let mut second = linked.bring();
    second.write_all(b"hello").await.unwrap();
    let refused = within(second.read(&mut [0; 1])).await.unwrap_err();
    assert!(
        refused.to_string().contains("at its limit of connections"),
        "{refused}"
    );
    drop((first, taken));
    until("the place is free", || linked.link.state.open() == 0).await;
    let mut third = linked.bring();
    third.write_all(b"hello").await.unwrap();
    within(linked.gateway.accept()).await.unwrap();
    assert_eq!(linked.link.state.connections(), 2);
    let counts = linked.osaka.context.refusals.counts();
    assert_eq!(
        (&*counts[0].reason, counts[0].count),
        ("connection_limit", 1)
    );
}

#[tokio::test]
async fn a_link_that_is_lost_is_dialled_again_and_without_a_long_pause_if_it_was_up_for_long() {
    let mut linked = Linked::new(ProxyLimits::default()).await;
    pass(LONGEST_PAUSE * 2).await;
    linked.dialer.refuse(true);
    linked.dialer.cut();
    until("lost", || !condition(&linked.link).linked).await;
    let dialled = linked.dialer.dialled();
    pass(FIRST_PAUSE * 2).await;
    until("an attempt", || linked.dialer.dialled() > dialled).await;
    linked.dialer.refuse(false);
    pass(LONGEST_PAUSE * 2).await;
    let mut again = within(linked.trunks.recv()).await.unwrap();
    until("linked", || condition(&linked.link).linked).await;
    let first = within(again.next()).await;
    assert!(matches!(first, Some(TrunkEvent::Ready)), "{first:?}");
}

#[tokio::test]
async fn a_site_that_stops_tells_its_hub_at_once_and_leaves_when_nothing_is_open() {
    let Linked {
        osaka,
        mut events,
        link: _link,
        ..
    } = Linked::new(ProxyLimits::default()).await;
    osaka.drain.begin();
    while !matches!(within(events.next()).await, Some(TrunkEvent::GoingAway)) {}
    assert!(events.handle().open(Bytes::new()).is_err());
    settle().await;
    assert_eq!(osaka.drain_watch().open(), 1, "the last bytes have time");
    let ended = async {
        loop {
            match events.next().await {
                Some(TrunkEvent::Ended(_)) | None => return,
                Some(_) => {}
            }
        }
    };
    pass(LAST_BYTES * 2).await;
    within(ended).await;
    assert_eq!(osaka.drain.wait(LONGEST_PAUSE).await.left, 0);
}
