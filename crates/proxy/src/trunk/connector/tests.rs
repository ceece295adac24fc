use std::sync::atomic::{AtomicUsize, Ordering};

use renkei_runtime::drain::Drain;
use renkei_spiffe::{Identities, SpiffeId};
use tokio::sync::{Semaphore, watch};

use super::*;
use crate::{
    identity::Direction,
    trunk::{KeyLimits, TrunkLimits},
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

/// A dialer whose attempts fail when the test lets them.
struct Dialer {
    dialled: AtomicUsize,
    answers: Semaphore,
}

impl LaneDialer for Dialer {
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
    dialer: Arc<Dialer>,
    pair: Pair,
    _drain: Drain,
    _identities: watch::Sender<Arc<Identities>>,
}

impl Lab {
    fn new() -> Self {
        let (identities, watch) = watch::channel(Arc::new(Identities::default()));
        let (drain, drain_watch) = Drain::new();
        let limits = TrunkLimits {
            memory: 1 << 30,
            grace: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            keys: KeyLimits {
                records_per_key: 1 << 16,
                records_per_lane: 1 << 23,
            },
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let id = |text| SpiffeId::parse(text).unwrap();
        Self {
            connector: Arc::new(Connector::new(TrunkContext::new(
                watch,
                drain_watch,
                provider,
                limits,
            ))),
            dialer: Arc::new(Dialer {
                dialled: AtomicUsize::new(0),
                answers: Semaphore::new(0),
            }),
            pair: Pair {
                direction: Direction::Outbound,
                caller: id("spiffe://osaka.example/collector"),
                callee: id("spiffe://hokkaido.example/broker"),
            },
            _drain: drain,
            _identities: identities,
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
