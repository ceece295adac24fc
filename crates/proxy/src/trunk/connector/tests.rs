use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::*;
use crate::{
    config::ProxyLimits,
    testing::{self, Dialer, Site, pass, settle, within},
    trunk::Acceptor,
};

/// Why a dial of these tests fails.
#[derive(Debug, PartialEq, Eq)]
struct NoAnswer;

impl DialError for NoAnswer {
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
        "no_answer"
    }
}

/// The other end was reached, and refused.
#[derive(Debug)]
struct Refused;

impl DialError for Refused {
    fn no_trunks() -> Self {
        Self
    }

    fn is_of_the_path(&self) -> bool {
        false
    }

    fn is_certain(&self) -> bool {
        false
    }

    fn label(&self) -> &'static str {
        "refused"
    }
}

/// A dialer whose attempts fail when the test lets them.
struct Failing {
    dialled: AtomicUsize,
    answers: Semaphore,
}

impl LaneDialer for Failing {
    type Error = NoAnswer;

    fn dial(&self) -> BoxFuture<'_, Result<LaneConnection, NoAnswer>> {
        Box::pin(async move {
            self.dialled.fetch_add(1, Ordering::SeqCst);
            self.answers.acquire().await.unwrap().forget();
            Err(NoAnswer)
        })
    }

    fn is_lane(&self, _alpn: Option<&[u8]>) -> bool {
        true
    }

    fn failed(&self, _error: &NoAnswer) {}
}

struct Lab {
    connector: Arc<Connector>,
    dialer: Arc<Failing>,
    pair: Pair,
    _site: Site,
}

impl Lab {
    fn new() -> Self {
        let (osaka, hokkaido) = (Site::new("osaka.example"), Site::new("hokkaido.example"));
        Self {
            connector: Arc::new(Connector::new(osaka.trunks.clone())),
            dialer: Arc::new(Failing {
                dialled: AtomicUsize::new(0),
                answers: Semaphore::new(0),
            }),
            pair: testing::pair(&osaka, &hokkaido, "/broker"),
            _site: osaka,
        }
    }

    fn open(&self, gateway: &'static str) -> JoinHandle<Result<Opened, OpenError<NoAnswer>>> {
        let (connector, dialer) = (self.connector.clone(), self.dialer.clone());
        let pair = self.pair.clone();
        tokio::spawn(async move {
            let limit = Duration::from_secs(15);
            connector
                .open((&pair, gateway), Bytes::new(), &dialer, limit)
                .await
        })
    }

    fn dialled(&self) -> usize {
        self.dialer.dialled.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn one_caller_dials_and_the_others_wait_no_longer_than_their_limit() {
    let lab = Lab::new();
    let first = lab.open("hokkaido:7443");
    tokio::task::yield_now().await;
    let began = Instant::now();
    let second = lab.open("hokkaido:7443").await.unwrap();
    assert!(matches!(second, Err(OpenError::Timeout)), "{second:?}");
    assert_eq!(began.elapsed(), Duration::from_secs(15));
    assert_eq!(lab.dialled(), 1, "the second did not dial");
    // Through another gateway nothing waits.
    let other = lab.open("elsewhere:7443");
    lab.dialer.answers.add_permits(2);
    for opened in [first, other] {
        let opened = opened.await.unwrap();
        assert!(
            matches!(opened, Err(OpenError::Dial(NoAnswer))),
            "{opened:?}"
        );
    }
    assert_eq!(lab.dialled(), 2);
}

/// The site file may name other services and gateways for as long as the process runs.
#[tokio::test(start_paused = true)]
async fn ways_that_are_not_used_any_more_are_forgotten() {
    let lab = Lab::new();
    lab.dialer.answers.add_permits(100);
    for gateway in 0..100 {
        let through = format!("hokkaido{gateway}:7443");
        let limit = Duration::from_secs(15);
        let opened = lab
            .connector
            .open((&lab.pair, &through), Bytes::new(), &lab.dialer, limit);
        assert!(matches!(opened.await, Err(OpenError::Dial(NoAnswer))));
    }
    let known = lab.connector.slots.lock().unwrap().len();
    assert!(known <= 2, "{known} are known");
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_next_caller_dials_again() {
    let lab = Lab::new();
    lab.dialer.answers.add_permits(2);
    for dialled in 1..=2 {
        let opened = lab.open("hokkaido:7443").await.unwrap();
        assert!(
            matches!(opened, Err(OpenError::Dial(NoAnswer))),
            "{opened:?}"
        );
        assert_eq!(lab.dialled(), dialled);
    }
}

/// Its other end may answer at last, and would then have a trunk that no one manages.
#[tokio::test]
async fn a_trunk_whose_first_lane_is_not_ready_in_time_ends() {
    for cancelled in [false, true] {
        let (osaka, hokkaido) = Site::two(ProxyLimits::default(), "/broker");
        let pair = testing::pair(&osaka, &hokkaido, "/broker");
        let (dialer, mut lanes) =
            Dialer::<NoAnswer>::new(&pair, (&osaka, &hokkaido), &[b"renkei-trunk/1.1"]);
        let connector = Connector::new(osaka.trunks.clone());
        let opening = tokio::spawn({
            let pair = pair.clone();
            async move {
                let limit = Duration::from_secs(15);
                let through = (&pair, "hokkaido:7443");
                connector.open(through, Bytes::new(), &dialer, limit).await
            }
        });
        let late = within(lanes.recv()).await.unwrap();
        settle().await;
        match cancelled {
            true => opening.abort(),
            false => pass(osaka.context.limits.handshake_timeout).await,
        }
        if let Ok(opened) = within(opening).await {
            let failed = matches!(opened, Err(OpenError::Trunk(TrunkFailure::Other(_))));
            assert!(failed, "{opened:?}");
        }
        let acceptor = Acceptor::new(hokkaido.trunks.clone());
        let joined = acceptor.join(late.connection, late.credentials, &pair);
        // An error means that it has ended already.
        if let Ok((lane, _events)) = within(joined).await {
            let _ = within(lane.run()).await;
        }
    }
}

/// A lane that is to take the place of one with an older SVID may be refused for as long as the
/// trunk lasts.
#[tokio::test]
async fn a_trunk_whose_next_lanes_are_refused_backs_off() {
    let (osaka, hokkaido) = Site::two(ProxyLimits::default(), "/broker");
    let pair = testing::pair(&osaka, &hokkaido, "/broker");
    let (dialer, lanes) =
        Dialer::<Refused>::new(&pair, (&osaka, &hokkaido), &[b"renkei-trunk/1.1"]);
    let acceptor = Acceptor::new(hokkaido.trunks.clone());
    let mut trunks = testing::accept_lanes(acceptor, &pair, lanes);
    let connector = Connector::new(osaka.trunks.clone());
    let _trunk = testing::trunk(&connector, &pair, &dialer, &mut trunks).await;
    dialer.refuse(true);
    osaka.identify("/broker");
    testing::until("an attempt", || dialer.dialled() > 1).await;
    for _ in 0..600 {
        pass(Duration::from_millis(100)).await;
        settle().await;
    }
    let dialled = dialer.dialled();
    assert!((4..20).contains(&dialled), "{dialled} in a minute");
    // Accepted again, it is used soon.
    dialer.refuse(false);
    let before = dialer.dialled();
    for _ in 0..200 {
        pass(Duration::from_millis(100)).await;
        settle().await;
    }
    assert!(dialer.dialled() > before);
}
