//! The callee's end: lanes that other sites dial, and the streams they open.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use renkei_runtime::{clock, drain::DrainGuard};
use renkei_trunk::{Code, Event, Greeting, Hello, LaneId, Refusal, StreamId, Trunk, TrunkId};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::UnboundedReceiver,
    time::timeout,
};
use tokio_rustls::TlsStream;

use super::{
    TrunkStream, Watch, Way, config,
    core::LaneState,
    driver::{Driver, Taker},
    gauge::Gauge,
    lane::{self, Wire},
    manager::{REST, TICK, Use},
    outlet::Outlet,
    panic::EndOnPanic,
};
use crate::{
    credentials::{Credentials, Fault},
    flows::Pair,
    shared::Shared,
};

/// How often a trunk without streams is looked at; a stream that opens is told of.
const QUIET: Duration = Duration::from_secs(60);

/// Trunks that others have dialed, by their names.
#[derive(Debug, Default)]
pub(crate) struct Accepted(Mutex<HashMap<TrunkId, Arc<Driver>>>);

/// Decides about a stream before it is taken, given the fault of the trunk's certificates if they
/// have one, and gives the connection that it becomes its number. `Err` is told to the opener.
pub(crate) type Decide = Arc<dyn Fn(Option<&Fault>) -> Result<u64, String> + Send + Sync>;
/// Carries a stream to its end.
pub(crate) type Admit =
    Arc<dyn Fn(TrunkStream, Taken, DrainGuard) -> BoxFuture<'static, ()> + Send + Sync>;

/// The connection that a stream becomes.
pub(crate) struct Taken {
    pub(crate) number: u64,
    /// The broker that is meant, if one was named.
    pub(crate) node: Option<i32>,
    /// When this side's SVID ends by which it is taken.
    pub(crate) svid_not_after: OffsetDateTime,
}

/// Who dialled a lane, and what becomes of its streams.
pub(crate) struct Caller {
    /// Every lane of a trunk has the same.
    pub(crate) pair: Pair,
    pub(crate) decide: Decide,
    pub(crate) admit: Admit,
    /// Hears of the trunk as a whole.
    pub(crate) watch: Option<Watch>,
}

/// Serves a verified connection as a lane, until it ends.
pub(crate) async fn serve_lane(
    mut stream: TlsStream<TcpStream>,
    credentials: Arc<Credentials>,
    caller: Caller,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    let limit = shared.limits.handshake_time;
    let greeted = timeout(limit, greet(&mut stream)).await;
    let (hello, rest) = match greeted {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(Lost::Refused(refusal))) => return refuse(stream, refusal).await,
        Ok(Err(Lost::Io(error))) => return Err(error),
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    // The dialer says nothing more until it is answered, so that no byte is under way.
    let (outlet, inlet) = Wire::new(stream)?.split();
    let mut outlet = Some(outlet);
    match join(&hello, (caller, credentials), &mut outlet, shared) {
        Ok((driver, id)) => {
            tracing::debug!(lane = id.number(), "a lane came");
            // What changed during its handshake has not seen it.
            driver.drop_faulty(&shared.identities(), clock::now());
            lane::run(driver, id, inlet, rest).await
        }
        Err(refusal) => match outlet {
            Some(outlet) => outlet.refuse(&refusal.frame()).await,
            None => Ok(()),
        },
    }
}

enum Lost {
    Refused(Refusal),
    Io(io::Error),
}

async fn greet(stream: &mut TlsStream<TcpStream>) -> Result<(Hello, Bytes), Lost> {
    let mut greeting = Greeting::new();
    loop {
        let mut input = BytesMut::with_capacity(4 * 1024);
        let count = stream.read_buf(&mut input).await.map_err(Lost::Io)?;
        if count == 0 {
            return Err(Lost::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut input = input.freeze();
        if let Some(hello) = greeting.receive(&mut input).map_err(Lost::Refused)? {
            return Ok((hello, input));
        }
    }
}

async fn refuse(mut stream: TlsStream<TcpStream>, refusal: Refusal) -> io::Result<()> {
    let frame = refusal.frame();
    stream.write_all(frame.header()).await?;
    stream.write_all(frame.payload()).await?;
    stream.shutdown().await
}

/// Finds or makes the trunk that the lane belongs to.
fn join(
    hello: &Hello,
    (caller, credentials): (Caller, Arc<Credentials>),
    outlet: &mut Option<Outlet>,
    shared: &Arc<Shared>,
) -> Result<(Arc<Driver>, LaneId), Refusal> {
    let pair = caller.pair.ends();
    let mut known = shared
        .accepted
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(driver) = known.get(&hello.trunk) {
        let driver = driver.clone();
        let id = accept(&driver, hello, (&pair, credentials), outlet)?;
        return Ok((driver, id));
    }
    let mut incarnation = [0; 8];
    // Failing to get random bytes leaves 0, which the trunk makes 1.
    let _ = shared.provider.secure_random.fill(&mut incarnation);
    let now = std::time::Instant::now();
    let trunk = Trunk::accept_trunk(
        now,
        config(&shared.limits),
        hello,
        &pair,
        u64::from_be_bytes(incarnation),
    )?;
    let (driver, events) = Driver::start(trunk, &shared.ledger);
    let id = accept(&driver, hello, (&pair, credentials), outlet)?;
    known.insert(hello.trunk, driver.clone());
    shared.census.enter(caller.pair.clone(), &driver);
    let (caller, used) = (Arc::new(caller), Arc::new(Use::default()));
    driver.hand_streams_to(taker(&caller, &used, shared));
    tokio::spawn(manage(
        hello.trunk,
        driver.clone(),
        events,
        (caller, used),
        shared.clone(),
    ));
    Ok((driver, id))
}

/// Gives every stream a task of its own, so that none waits for what is decided about another.
fn taker(caller: &Arc<Caller>, used: &Arc<Use>, shared: &Arc<Shared>) -> Taker {
    let (caller, used, shared) = (caller.clone(), used.clone(), shared.clone());
    Box::new(move |driver, id, target| {
        used.note();
        let (driver, caller, shared) = (driver.clone(), caller.clone(), shared.clone());
        tokio::spawn(async move { opened(&driver, id, &target, &caller, &shared).await });
    })
}

/// Takes the lane, and with it its outlet.
fn accept(
    driver: &Arc<Driver>,
    hello: &Hello,
    (pair, credentials): (&str, Arc<Credentials>),
    outlet: &mut Option<Outlet>,
) -> Result<LaneId, Refusal> {
    driver.with(|core, now| {
        let id = core.trunk.accept_lane(now, hello, pair)?;
        driver.standing.enter(id, credentials);
        let lane = outlet.take().map(LaneState::new);
        core.lanes.extend(lane.map(|lane| (id, lane)));
        Ok(id)
    })
}

/// Follows the trunk until it is over.
async fn manage(
    id: TrunkId,
    driver: Arc<Driver>,
    mut events: UnboundedReceiver<Event>,
    (caller, used): (Arc<Caller>, Arc<Use>),
    shared: Arc<Shared>,
) {
    let _end = EndOnPanic::of(&driver);
    let drain = shared.drain.clone();
    let mut draining = false;
    let (mut gauge, mut asked, mut rests) = (Gauge::new(), 1, true);
    loop {
        let busy = used.taken() || driver.streams() > 0;
        rests &= !busy;
        let wait = if busy {
            let wanted = gauge.wanted(&driver);
            if std::mem::replace(&mut asked, wanted) != wanted {
                driver.with(|core, _| core.trunk.want_lanes(wanted));
            }
            TICK
        } else {
            gauge.pause();
            used.doze();
            if rests { QUIET } else { REST }
        };
        tokio::select! {
            event = told(&mut events, &driver, caller.watch.as_ref()) => {
                if matches!(event, None | Some(Event::Closed(_))) {
                    break;
                }
            }
            () = used.noted() => {}
            () = drain.signaled(), if !draining => {
                draining = true;
                driver.with(|core, _| core.trunk.go_away());
            }
            () = tokio::time::sleep(wait) => if !busy && !rests {
                rests = true;
                if gauge.rest() {
                    asked = 1;
                    driver.with(|core, _| core.trunk.want_lanes(asked));
                }
            },
        }
    }
    let mut known = shared
        .accepted
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    known.remove(&id);
}

/// The next event, once the watcher has heard of it.
async fn told(
    events: &mut UnboundedReceiver<Event>,
    driver: &Arc<Driver>,
    watch: Option<&Watch>,
) -> Option<Event> {
    let event = events.recv().await;
    if let (Some(watch), Some(event)) = (watch, &event) {
        watch(&Way::of(driver), event);
    }
    event
}

/// Decides about a stream, and sees it to its end.
async fn opened(
    driver: &Arc<Driver>,
    id: StreamId,
    target: &Bytes,
    caller: &Caller,
    shared: &Arc<Shared>,
) {
    let refuse = |code: Code, reason: &str| {
        driver.with(|core, _| core.refuse(id, code, reason));
    };
    let node = match std::str::from_utf8(target).map(|text| (text, text.parse())) {
        Ok(("", _)) => None,
        Ok((_, Ok(node))) => Some(node),
        _ => {
            return refuse(
                Code::UNREACHABLE,
                "it does not understand the target of the stream",
            );
        }
    };
    if shared.drain.is_signaled() {
        return refuse(Code::STOPPING, "its site is stopping");
    }
    let Ok(room) = shared.inbound_room.clone().try_acquire_owned() else {
        return refuse(Code::UNREACHABLE, "its gateway is at its connection limit");
    };
    if !driver.admits() {
        return refuse(Code::BUSY, "its gateway is at its memory limit");
    }
    let check = driver.check(&shared.identities(), clock::now());
    let decided = (caller.decide)(check.as_ref().err());
    let (number, svid_not_after) = match (decided, check) {
        (Ok(number), Ok(credentials)) => (number, credentials.own().not_after()),
        (Err(reason), _) => return refuse(Code::REVOKED, &reason),
        (Ok(_), Err(_)) => return refuse(Code::REVOKED, "its certificates are not valid"),
    };
    // The answer goes with the first bytes, or with the next acknowledgement.
    let taken = driver.act(|core, _| core.accept(id));
    let stream = TrunkStream::accepted(driver.clone(), id);
    if taken.is_err() {
        return;
    }
    let taken = Taken {
        number,
        node,
        svid_not_after,
    };
    (caller.admit)(stream, taken, shared.drain.guard()).await;
    drop(room);
}
