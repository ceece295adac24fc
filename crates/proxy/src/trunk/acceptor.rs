//! The callee's end: lanes that other sites dial, and the trunks that they make up.

use std::{
    collections::HashMap,
    future::poll_fn,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use renkei_trunk::{Event, Greeting, Hello, LaneId, LaneRefusal, Trunk, TrunkId};
use tokio::{sync::mpsc::UnboundedReceiver, time::timeout};

use super::{
    MAX_LANES, TrunkContext, TrunkEvent, TrunkEvents,
    core::LaneState,
    driver::Driver,
    events::EventSender,
    lane,
    lane_sizing::{LaneSizing, REST, TICK},
    lane_writer::LaneWriter,
    now,
    panic::EndOnPanic,
    timer,
};
use crate::{
    identity::{Credentials, Pair},
    record::{Pieces, RecordReader, TlsConnection},
};

/// How often a trunk without streams is looked at; a stream that opens wakes the task.
const QUIET: Duration = Duration::from_secs(60);

/// Trunks that others have dialled, by their names.
#[derive(Debug)]
pub(crate) struct Acceptor {
    context: Arc<TrunkContext>,
    known: Mutex<HashMap<TrunkId, Arc<Driver>>>,
}

/// A connection that has become a lane. It must be run.
pub(crate) struct Lane {
    driver: Arc<Driver>,
    id: LaneId,
    reader: RecordReader,
    /// What was read behind the HELLO.
    first: Bytes,
}

impl Lane {
    /// Carries frames until the lane ends.
    pub(crate) async fn run(self) -> io::Result<()> {
        lane::run(self.driver, self.id, self.reader, self.first).await
    }
}

impl Acceptor {
    pub(crate) fn new(context: Arc<TrunkContext>) -> Arc<Self> {
        Arc::new(Self {
            context,
            known: Mutex::default(),
        })
    }

    /// Takes a verified connection as a lane of the trunk that its HELLO names, between the ends
    /// of `pair`. Gives the events of the trunk if this is its first lane. An error means that the
    /// connection broke or that the lane was refused.
    pub(crate) async fn join(
        self: &Arc<Self>,
        connection: TlsConnection,
        credentials: Arc<Credentials>,
        pair: &Pair,
    ) -> io::Result<(Lane, Option<TrunkEvents>)> {
        let limit = self.context.limits.handshake_timeout;
        let (writer, mut reader) = lane::split(connection, self.context.limits.keys);
        let mut writer = Some(writer);
        let (entered, first) = match timeout(limit, read_hello(&mut reader)).await {
            Ok(Ok((hello, first))) => {
                let entered = self.enter(&hello, (pair, credentials), &mut writer);
                (entered, first)
            }
            Ok(Err(HelloError::Refused(refusal))) => (Err(refusal), Bytes::new()),
            Ok(Err(HelloError::Io(error))) => return Err(error),
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        };
        match entered {
            Ok((driver, id, events)) => {
                tracing::debug!(trunk = ?driver.id(), lane = id.number(), "a lane came");
                // What changed during its handshake has not seen it.
                driver.drop_faulty_now();
                let lane = Lane {
                    driver,
                    id,
                    reader,
                    first,
                };
                Ok((lane, events))
            }
            Err(refusal) => {
                if let Some(writer) = writer {
                    writer.refuse(&refusal.frame()).await?;
                }
                Err(refused(&refusal))
            }
        }
    }

    /// Finds or makes the trunk that the lane belongs to.
    fn enter(
        self: &Arc<Self>,
        hello: &Hello,
        (pair, credentials): (&Pair, Arc<Credentials>),
        writer: &mut Option<LaneWriter>,
    ) -> Result<(Arc<Driver>, LaneId, Option<TrunkEvents>), LaneRefusal> {
        let (context, ends) = (&self.context, pair.ends());
        let mut known = self.known();
        if let Some(driver) = known.get(&hello.trunk) {
            let driver = driver.clone();
            self.limit_lanes(&driver);
            let id = accept(&driver, hello, (&ends, credentials), writer)?;
            return Ok((driver, id, None));
        }
        let mut incarnation = [0; 8];
        // Failing to get random bytes leaves 0, which the trunk makes 1.
        let _ = context.provider.secure_random.fill(&mut incarnation);
        let number = u64::from_be_bytes(incarnation);
        let trunk = Trunk::accept_trunk(now(), context.config(), hello, &ends, number)?;
        let (driver, events) = timer::start(trunk, pair.remote().trust_domain(), context);
        self.limit_lanes(&driver);
        let id = accept(&driver, hello, (&ends, credentials), writer)?;
        known.insert(hello.trunk, driver.clone());
        context.table.enter(pair.clone(), &driver);
        let (follower, followed) = TrunkEvents::of(&driver);
        let acceptor = self.clone();
        let follow = acceptor.follow(hello.trunk, driver.clone(), events, follower);
        tokio::spawn(follow);
        Ok((driver, id, Some(followed)))
    }

    /// Follows the trunk until it is over.
    async fn follow(
        self: Arc<Self>,
        id: TrunkId,
        driver: Arc<Driver>,
        mut events: UnboundedReceiver<Event>,
        follower: EventSender,
    ) {
        let _end = EndOnPanic::of(&driver);
        let drain = self.context.drain.clone();
        let mut draining = false;
        let (mut sizing, mut asked, mut rests) = (LaneSizing::new(), 1, true);
        loop {
            let busy = driver.used.taken() || driver.streams() > 0;
            rests &= !busy;
            let wait = if busy {
                self.limit_lanes(&driver);
                let wanted = sizing.wanted(&driver);
                if std::mem::replace(&mut asked, wanted) != wanted {
                    driver.with(|core, _| core.trunk.want_lanes(wanted));
                }
                TICK
            } else {
                sizing.pause();
                driver.used.doze();
                if rests { QUIET } else { REST }
            };
            tokio::select! {
                event = events.recv() => {
                    if let Some(news) = event.as_ref().and_then(TrunkEvent::of) {
                        // Without a receiver the streams of the trunk are refused.
                        let _ = follower.send(news);
                    }
                    if matches!(event, None | Some(Event::Closed(_))) {
                        break;
                    }
                }
                () = driver.used.noted() => {}
                () = drain.signaled(), if !draining => {
                    draining = true;
                    driver.with(|core, _| core.trunk.go_away());
                }
                () = tokio::time::sleep(wait) => if !busy && !rests {
                    rests = true;
                    if sizing.rest() {
                        asked = 1;
                        driver.with(|core, _| core.trunk.want_lanes(asked));
                    }
                },
            }
        }
        self.known().remove(&id);
    }

    /// Sees that the trunk has no more lanes than it may: the other end may have more in mind.
    fn limit_lanes(&self, driver: &Driver) {
        let most = self.context.max_lanes();
        // One takes the place of another before that is closed.
        let accepted = if most == MAX_LANES {
            2 * most
        } else {
            most + 1
        };
        let ready = driver.act(|core, _| {
            core.trunk.limit_accepted(accepted);
            core.trunk.ready_lanes()
        });
        if ready > accepted {
            driver.close_newest(ready - most);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<TrunkId, Arc<Driver>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum HelloError {
    Refused(LaneRefusal),
    Io(io::Error),
}

async fn read_hello(reader: &mut RecordReader) -> Result<(Hello, Bytes), HelloError> {
    let mut greeting = Greeting::new();
    loop {
        let read = poll_fn(|cx| reader.poll_read(cx)).await;
        let pieces = read.map_err(HelloError::Io)?;
        let pieces = pieces.ok_or_else(|| HelloError::Io(io::ErrorKind::UnexpectedEof.into()))?;
        let mut input = joined(pieces);
        if let Some(hello) = greeting.receive(&mut input).map_err(HelloError::Refused)? {
            return Ok((hello, input));
        }
    }
}

/// Few bytes, in memory of their own.
fn joined(pieces: Pieces) -> Bytes {
    let mut all = BytesMut::new();
    pieces.into_data().for_each(|data| all.extend(data));
    all.freeze()
}

fn refused(refusal: &LaneRefusal) -> io::Error {
    io::Error::other(format!("the lane was refused: {refusal}"))
}

/// Takes the lane, and with it its writer.
fn accept(
    driver: &Arc<Driver>,
    hello: &Hello,
    (pair, credentials): (&str, Arc<Credentials>),
    writer: &mut Option<LaneWriter>,
) -> Result<LaneId, LaneRefusal> {
    driver.with(|core, now| {
        let id = core.trunk.accept_lane(now, hello, pair)?;
        driver.standing.enter(id, credentials);
        let lane = writer.take().map(LaneState::new);
        core.lanes.extend(lane.map(|lane| (id, lane)));
        Ok(id)
    })
}

#[cfg(test)]
mod tests;
