//! The caller's end: a trunk for every caller, callee and gateway, made out of its first lane.
//! [`Manager`] keeps it in lanes.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use renkei_runtime::clock;
use renkei_trunk::{Event, LaneId, Trunk, TrunkId};
use time::OffsetDateTime;
use tokio::{net::TcpStream, sync::mpsc::UnboundedReceiver, task::JoinHandle, time::timeout};
use tokio_rustls::TlsStream;

use super::{
    TrunkStream, Watch, Way, config,
    core::LaneState,
    driver::Driver,
    lane::{self, Wire},
    manager::{Manager, Use},
};
use crate::{credentials::Credentials, flows::Pair, outbound::Failure, shared::Shared};

/// A connection that can become a lane.
pub(crate) struct Raw {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) gateway: SocketAddr,
    /// What both ends have shown.
    pub(crate) credentials: Arc<Credentials>,
}

/// Dials one more connection for the same caller and callee, with the caller's SVID of now.
pub(crate) type Dial = Arc<dyn Fn() -> BoxFuture<'static, Result<Raw, Failure>> + Send + Sync>;

/// Hears why a trunk that has lost every lane does not get another.
pub(crate) type Failed = Arc<dyn Fn(&Failure) + Send + Sync>;

/// What keeps a trunk in lanes.
pub(crate) struct Keeping {
    pub(crate) dial: Dial,
    pub(crate) failed: Failed,
    /// Hears of the trunk as a whole. With one it is kept even while it carries nothing.
    pub(crate) watch: Option<Watch>,
}

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
    /// A stream of the trunk, and when the SVID ends by which it is opened. Nothing if the trunk
    /// is over, takes no streams for now, or was made with certificates that are not valid now.
    pub(crate) fn open(
        &self,
        node: Option<i32>,
        shared: &Shared,
    ) -> Option<(TrunkStream, OffsetDateTime)> {
        let driver = self.driver.upgrade()?;
        let now = clock::now();
        let credentials = driver.check(&shared.identities(), now).ok()?;
        let target = node.map_or(Bytes::new(), |node| Bytes::from(node.to_string()));
        let id = driver.open(target).ok()?;
        self.used.note();
        let end = credentials.own().not_after();
        Some((TrunkStream::opened(driver, id), end))
    }
}

/// Makes a trunk out of its first lane.
pub(crate) async fn establish(
    raw: Raw,
    kafka: bool,
    pair: Pair,
    keeping: Keeping,
    shared: &Arc<Shared>,
) -> Result<Dialed, Failure> {
    let mut id = [0; 16];
    let random = &shared.provider.secure_random;
    random
        .fill(&mut id)
        .map_err(|_| Failure::Tls("no random bytes".into()))?;
    let (now, ends) = (std::time::Instant::now(), pair.ends());
    let trunk = Trunk::dial(now, config(&shared.limits), TrunkId(id), &ends);
    let (driver, mut events) = Driver::start(trunk, &shared.ledger);
    let Raw {
        stream,
        gateway,
        credentials,
    } = raw;
    let lane = add_lane(&driver, &ends, (stream, credentials)).map_err(Failure::Tls)?;
    let ready = timeout(shared.limits.handshake_time, greeted(lane, &mut events))
        .await
        .map_err(|_| Failure::Tls("the other end sends no HELLO".into()))??;
    if let Some(watch) = &keeping.watch {
        watch(&Way::of(&driver), &ready);
    }
    shared.census.enter(pair, &driver);
    let used = Arc::new(Use::default());
    let manager = Manager::new(driver.clone(), &ends, keeping, used.clone());
    tokio::spawn(manager.run(events, shared.clone()));
    Ok(Dialed {
        driver: Arc::downgrade(&driver),
        used,
        kafka,
        gateway,
    })
}

/// The event that the first lane is ready, or why it never will be.
async fn greeted(
    mut lane: JoinHandle<std::io::Result<()>>,
    events: &mut UnboundedReceiver<Event>,
) -> Result<Event, Failure> {
    loop {
        tokio::select! {
            biased;
            event = events.recv() => match event {
                Some(event @ Event::LaneReady(_)) => return Ok(event),
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
}

/// Makes a lane of a connection that has been dialed.
pub(super) fn add_lane(
    driver: &Arc<Driver>,
    pair: &str,
    (stream, credentials): (TlsStream<TcpStream>, Arc<Credentials>),
) -> Result<JoinHandle<std::io::Result<()>>, String> {
    let wire = Wire::new(stream).map_err(|error| error.to_string())?;
    let (outlet, inlet) = wire.split();
    let id = driver
        .with(|core, now| {
            let id = core.trunk.add_lane(now, pair)?;
            driver.standing.enter(id, credentials);
            core.lanes.insert(id, LaneState::new(outlet));
            Ok::<LaneId, renkei_trunk::LaneError>(id)
        })
        .map_err(|error| error.to_string())?;
    Ok(tokio::spawn(lane::run(
        driver.clone(),
        id,
        inlet,
        Bytes::new(),
    )))
}
