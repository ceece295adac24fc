//! The caller's end: a trunk for every caller, callee and gateway, and its lanes.
//!
//! A trunk starts with one lane. While buffers hold its lanes back and more of them bring more
//! bytes a second, lanes are added ([`Gauge`]), and so they are when the other end asks for them,
//! which cannot dial. Lanes that are not needed go.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use renkei_spiffe::X509Svid;
use renkei_trunk::{Code, Event, LaneId, Trunk, TrunkId};
use time::OffsetDateTime;
use tokio::{
    net::TcpStream,
    sync::{Notify, mpsc::UnboundedReceiver},
    task::{JoinError, JoinHandle, JoinSet},
    time::{Instant, timeout},
};
use tokio_rustls::TlsStream;

use super::{
    MAX_LANES, TrunkStream, Watch, Way, config,
    driver::{Driver, LaneState},
    gauge::Gauge,
    lane::{self, Wire},
};
use crate::{outbound::Failure, shared::Shared};

/// How often a busy trunk is looked at.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// A trunk without streams is kept for the next ones this long.
const IDLE: Duration = Duration::from_secs(60);
/// Between attempts to add lanes when one could not be had and there are others.
const SCARCE: Duration = Duration::from_secs(5);
/// Between attempts to dial when there is no lane.
const RETRY: Duration = Duration::from_millis(200);

/// A connection that can become a lane.
pub(crate) struct Raw {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) gateway: SocketAddr,
    /// Whose end it was dialed with.
    pub(crate) svid: Arc<X509Svid>,
}

/// Tells the manager of a trunk that streams are opened, without waking it for each.
#[derive(Debug, Default)]
struct Use {
    opened: AtomicBool,
    dozing: AtomicBool,
    wake: Notify,
}

impl Use {
    fn note(&self) {
        self.opened.store(true, Ordering::SeqCst);
        if self.dozing.swap(false, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Whether streams were opened since the last call.
    fn taken(&self) -> bool {
        self.opened.swap(false, Ordering::SeqCst)
    }

    /// From now on the manager wants to be woken by the next stream.
    fn doze(&self) {
        self.dozing.store(true, Ordering::SeqCst);
        if self.opened.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }
}

/// Dials one more connection for the same caller and callee, with the caller's SVID of now.
pub(crate) type Dial = Arc<dyn Fn() -> BoxFuture<'static, Result<Raw, Failure>> + Send + Sync>;

/// The trunks of this side's callers, by caller, callee and gateway.
#[derive(Debug, Default)]
pub(crate) struct Trunks(Mutex<HashMap<String, Arc<tokio::sync::Mutex<Slot>>>>);

/// What is known about the way from a caller to a callee.
#[derive(Debug, Default)]
pub(crate) enum Slot {
    /// Nobody has dialed yet.
    #[default]
    Unknown,
    /// The other end knows no trunks.
    Plain {
        /// When it was asked last.
        since: std::time::Instant,
    },
    /// There is a trunk.
    Trunk(Dialed),
}

/// A trunk that was dialed.
#[derive(Debug)]
pub(crate) struct Dialed {
    pub(super) driver: Weak<Driver>,
    used: Arc<Use>,
    /// The caller's SVID of the newest lanes.
    svid: Arc<ArcSwap<X509Svid>>,
    pub(crate) kafka: bool,
    pub(crate) gateway: SocketAddr,
}

impl Trunks {
    /// The way for a key, to be locked while a first connection is dialed.
    pub(crate) fn slot(&self, key: &str) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.entry(key.to_owned()).or_default().clone()
    }
}

impl Dialed {
    /// When the SVID ends that the newest lanes were dialed with.
    pub(crate) fn svid_not_after(&self) -> OffsetDateTime {
        self.svid.load().not_after()
    }

    /// A stream of the trunk, unless it is over or takes none for now.
    pub(crate) fn open(&self, node: Option<i32>) -> Option<TrunkStream> {
        let driver = self.driver.upgrade()?;
        let target = node.map_or(Bytes::new(), |node| Bytes::from(node.to_string()));
        let id = driver.open(target).ok()?;
        self.used.note();
        Some(TrunkStream::opened(driver, id))
    }
}

/// Makes a trunk out of its first lane. With a `watch` it is kept even while it carries nothing.
pub(crate) async fn establish(
    raw: Raw,
    kafka: bool,
    pair: &str,
    (dial, watch): (Dial, Option<Watch>),
    shared: &Arc<Shared>,
) -> Result<Dialed, Failure> {
    let mut id = [0; 16];
    let random = &shared.provider.secure_random;
    random
        .fill(&mut id)
        .map_err(|_| Failure::Tls("no random bytes".into()))?;
    let trunk = Trunk::dial(
        std::time::Instant::now(),
        config(&shared.limits),
        TrunkId(id),
        pair,
    );
    let (driver, mut events) = Driver::start(trunk, &shared.ledger);
    let Raw {
        stream,
        gateway,
        svid,
    } = raw;
    let svid = Arc::new(ArcSwap::new(svid));
    let mut lane = add_lane(&driver, pair, stream).map_err(Failure::Tls)?;
    let ready = async {
        loop {
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(event @ Event::LaneReady(_)) => {
                        if let Some(watch) = &watch {
                            watch(&Way::of(&driver), &event);
                        }
                        return Ok(());
                    }
                    Some(Event::LaneRefused(_, refusal)) => {
                        return Err(Failure::Tls(refusal.to_string()));
                    }
                    Some(Event::Closed(reason)) => return Err(Failure::Tls(reason.to_string())),
                    _ => {}
                },
                ended = &mut lane => return Err(match ended {
                    Ok(Err(error)) => Failure::from_alert(&error)
                        .unwrap_or_else(|| Failure::Tls(error.to_string())),
                    _ => Failure::Tls("the connection ended at once".into()),
                }),
            }
        }
    };
    timeout(shared.limits.handshake_time, ready)
        .await
        .map_err(|_| Failure::Tls("the other end does not greet".into()))??;
    let used = Arc::new(Use::default());
    let manager = Manager {
        driver: driver.clone(),
        pair: pair.to_owned(),
        dial,
        used: used.clone(),
        adding: JoinSet::new(),
        svid: svid.clone(),
        retired: Vec::new(),
        renewal: Instant::now(),
        gauge: Gauge::new(),
        wanted_there: 1,
        growth: Instant::now(),
        watch,
    };
    tokio::spawn(manager.run(events, shared.clone()));
    Ok(Dialed {
        driver: Arc::downgrade(&driver),
        used,
        svid,
        kafka,
        gateway,
    })
}

fn add_lane(
    driver: &Arc<Driver>,
    pair: &str,
    stream: TlsStream<TcpStream>,
) -> Result<JoinHandle<std::io::Result<()>>, String> {
    let wire = Wire::new(stream).map_err(|error| error.to_string())?;
    let id = driver
        .with(|core, now| {
            let id = core.trunk.add_lane(now, pair)?;
            core.lanes.insert(id, LaneState::new(wire.outlet.clone()));
            Ok::<LaneId, renkei_trunk::LaneError>(id)
        })
        .map_err(|error| error.to_string())?;
    Ok(tokio::spawn(lane::run(
        driver.clone(),
        id,
        wire,
        Bytes::new(),
    )))
}

/// Keeps a trunk in lanes.
struct Manager {
    driver: Arc<Driver>,
    pair: String,
    dial: Dial,
    used: Arc<Use>,
    adding: JoinSet<Result<Raw, Failure>>,
    svid: Arc<ArcSwap<X509Svid>>,
    /// Lanes to close once a lane with a newer SVID is ready.
    retired: Vec<LaneId>,
    /// When a lane with a newer SVID may be dialed again.
    renewal: Instant,
    gauge: Gauge,
    /// How many lanes the other end wants.
    wanted_there: usize,
    /// When lanes may be added again, after one could not be had.
    growth: Instant,
    watch: Option<Watch>,
}

impl Manager {
    async fn run(mut self, mut events: UnboundedReceiver<Event>, shared: Arc<Shared>) {
        let mut identities = shared.identities.clone();
        let mut idle_since = Instant::now();
        let mut suspended = false;
        let mut retry = Instant::now();
        loop {
            let streams = self.driver.streams();
            let used = self.used.taken() || streams > 0;
            let busy = used || !self.adding.is_empty();
            if used {
                idle_since = Instant::now();
            }
            let draining = shared.drain.is_signaled();
            let idle = self.watch.is_none() && idle_since.elapsed() > IDLE;
            let spare = draining || idle || suspended;
            if streams == 0 && spare && self.leave() {
                break;
            }
            let wait = if busy {
                TICK
            } else {
                self.used.doze();
                IDLE / 4
            };
            tokio::select! {
                event = events.recv() => match self.told(event) {
                    None | Some(Event::Closed(_)) => return,
                    Some(Event::Suspended { .. }) => {
                        suspended = true;
                        retry = Instant::now();
                    }
                    Some(Event::LaneReady(lane)) => {
                        suspended = false;
                        if !self.retired.contains(&lane) {
                            self.close_retired();
                        }
                    }
                    Some(Event::LanesWanted(lanes)) => self.wanted_there = lanes,
                    Some(_) => {}
                },
                Some(dialed) = self.adding.join_next() => self.take(dialed),
                () = self.used.wake.notified() => {}
                () = shared.drain.signaled(), if !draining => {}
                changed = identities.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(wait) => {}
            }
            if suspended && self.adding.is_empty() && Instant::now() >= retry {
                self.dial_more(1);
                retry = Instant::now() + RETRY;
            }
            self.renew(&shared);
            if !suspended {
                self.resize();
            }
        }
        self.close().await;
    }

    fn told(&self, event: Option<Event>) -> Option<Event> {
        if let (Some(watch), Some(event)) = (&self.watch, &event) {
            watch(&Way::of(&self.driver), event);
        }
        event
    }

    fn dial_more(&mut self, count: usize) {
        for _ in 0..count {
            self.adding.spawn((self.dial)());
        }
    }

    /// Makes a lane of a connection that has been dialed.
    fn take(&mut self, dialed: Result<Result<Raw, Failure>, JoinError>) {
        let added = match dialed {
            Ok(Ok(raw)) => {
                let svid = raw.svid;
                add_lane(&self.driver, &self.pair, raw.stream).map(|_| self.svid.store(svid))
            }
            Ok(Err(failure)) => Err(format!("{failure:?}")),
            Err(error) => Err(error.to_string()),
        };
        if let Err(reason) = added {
            tracing::debug!(reason, pair = self.pair, "no further lane");
            self.growth = Instant::now() + SCARCE;
        }
    }

    /// Once the caller's SVID has been renewed, lanes dialed with the old one give way to one
    /// with the new; so do lanes whose keys are worn. The streams do not notice.
    fn renew(&mut self, shared: &Shared) {
        let used = self.svid.load_full();
        let Some(now) = shared.svid(used.id()) else {
            return;
        };
        let due = now.serial() != used.serial() || self.lost_renewal() || self.worn();
        if !due || !self.adding.is_empty() || Instant::now() < self.renewal {
            return;
        }
        self.renewal = Instant::now() + RETRY;
        let lanes = self.driver.with(|core, now| {
            let lanes: Vec<_> = core.trunk.lanes().collect();
            let full = lanes.len() >= MAX_LANES;
            if full && core.trunk.ready_lanes() == lanes.len() {
                // One goes first, to make room.
                if let Some(lane) = lanes.first() {
                    core.trunk.close_lane(now, *lane);
                }
            }
            (!full).then_some(lanes)
        });
        match lanes {
            Some(lanes) => {
                self.retired = lanes;
                self.dial_more(1);
            }
            None => self.driver.wake_lanes(),
        }
    }

    /// Whether the lane that was to replace older ones is gone and they still serve.
    fn lost_renewal(&self) -> bool {
        let retired = &self.retired;
        !retired.is_empty()
            && self
                .driver
                .act(|core, _| core.trunk.lanes().all(|lane| retired.contains(&lane)))
    }

    fn worn(&self) -> bool {
        let retired = &self.retired;
        self.driver.act(|core, _| {
            let worn = |(id, lane): (&LaneId, &LaneState)| {
                lane.worn && core.trunk.carries(*id) && !retired.contains(id)
            };
            core.lanes.iter().any(worn)
        })
    }

    fn close_retired(&mut self) {
        let retired = std::mem::take(&mut self.retired);
        self.driver.with(|core, now| {
            for lane in retired {
                core.trunk.close_lane(now, lane);
            }
        });
        self.driver.wake_lanes();
    }

    /// Sees that there are as many lanes as the two ends want.
    fn resize(&mut self) {
        let wanted = self.gauge.wanted(&self.driver).max(self.wanted_there);
        let wanted = wanted.min(MAX_LANES);
        let lanes = self.driver.act(|core, _| core.trunk.ready_lanes());
        if lanes < wanted && self.adding.is_empty() && Instant::now() >= self.growth {
            self.dial_more(wanted - lanes);
        } else if lanes > wanted && self.retired.is_empty() {
            self.close_newest(lanes - wanted);
        }
    }

    fn close_newest(&self, count: usize) {
        self.driver.with(|core, now| {
            let carrying = |id: &&LaneId| core.trunk.carries(**id);
            let newest = core.lanes.keys().rev().filter(carrying).take(count);
            for lane in newest.copied().collect::<Vec<_>>() {
                core.trunk.close_lane(now, lane);
            }
        });
        self.driver.wake_lanes();
    }

    /// Takes no streams from now on, unless one has just been opened.
    fn leave(&self) -> bool {
        self.driver.with(|core, _| {
            let unused = core.trunk.streams() == 0;
            if unused {
                core.trunk.go_away();
            }
            unused
        })
    }

    /// Lets the lanes take leave.
    async fn close(self) {
        self.driver.with(|core, now| {
            for lane in core.lanes.keys().copied().collect::<Vec<_>>() {
                core.trunk.close_lane(now, lane);
            }
        });
        self.driver.wake_lanes();
        let gone = async {
            while self.driver.with(|core, _| !core.lanes.is_empty()) {
                tokio::time::sleep(TICK / 10).await;
            }
        };
        let _ = timeout(Duration::from_secs(1), gone).await;
        self.driver
            .with(|core, _| core.trunk.close(Code::STOPPING, "not needed any more"));
    }
}
