//! What a driver's lock guards: the state machine of the trunk, who waits for its streams, and what
//! its lanes are to do.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    task::Waker,
    time::Instant,
};

use bytes::Bytes;
use renkei_trunk::{Code, Event, LaneId, ResetCause, StreamError, StreamId, Trunk};
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use super::{lane_writer::LaneWriter, memory_budget::Share, writer_slot::WriterSlot};

/// How a stream ended before its time.
#[derive(Debug, Clone)]
pub(super) enum Fate {
    /// The callee's side did not take it.
    Refused(Code, String),
    /// It was cut.
    Reset(ResetCause),
}

/// Who waits for a stream, and what has become of it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
    pub(super) fate: Option<Fate>,
    /// The peer takes no more bytes.
    pub(super) stopped: bool,
}

impl Waiting {
    fn wake(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.reader.take());
        wakers.extend(self.writer.take());
    }
}

/// What a lane's task is to do when it is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneFate {
    /// Flush, and close cleanly.
    Close,
    /// Drop the connection.
    Drop,
}

pub(super) struct LaneState {
    /// Its writing half.
    pub(super) slot: WriterSlot<Box<LaneWriter>>,
    pub(super) socket: Arc<TcpStream>,
    pub(super) fate: Option<LaneFate>,
    /// Its keys have sealed so much that another should take its place.
    pub(super) worn: bool,
    /// Gone once there is a fate, for a lane that waits for TCP and does not look.
    pub(super) alive: Option<oneshot::Sender<()>>,
}

impl LaneState {
    pub(super) fn new(writer: LaneWriter) -> Self {
        Self {
            socket: writer.socket().clone(),
            slot: WriterSlot::new(Box::new(writer)),
            fate: None,
            worn: false,
            alive: None,
        }
    }
}

/// What is behind the lock.
pub(super) struct Core {
    pub(super) trunk: Trunk,
    pub(super) streams: HashMap<StreamId, Waiting>,
    pub(super) lanes: BTreeMap<LaneId, LaneState>,
    /// Streams that the other end opened and that the driver has not handed on yet.
    pub(super) arrived: Vec<(StreamId, Bytes)>,
    /// When the timer will look again; nothing while it is about to look.
    pub(super) armed: Option<Instant>,
    pub(super) share: Share,
}

impl Core {
    pub(super) fn new(trunk: Trunk, share: Share) -> Self {
        Self {
            trunk,
            streams: HashMap::new(),
            lanes: BTreeMap::new(),
            arrived: Vec::new(),
            armed: None,
            share,
        }
    }

    /// Hands out the trunk's events.
    pub(super) fn dispatch(
        &mut self,
        news: &mpsc::UnboundedSender<Event>,
        wakers: &mut Vec<Waker>,
    ) {
        while let Some(event) = self.trunk.poll_event() {
            if let Event::Opened { stream, .. } = &event {
                // What becomes of it before it is taken is kept, too.
                self.streams.entry(*stream).or_default();
            }
            match &event {
                Event::Opened { stream, target } => {
                    self.arrived.push((*stream, target.clone()));
                    continue;
                }
                Event::Readable(id) => {
                    let waiting = self.streams.get_mut(id);
                    wakers.extend(waiting.and_then(|waiting| waiting.reader.take()));
                    continue;
                }
                Event::Writable(id) | Event::Delivered(id) => {
                    let waiting = self.streams.get_mut(id);
                    wakers.extend(waiting.and_then(|waiting| waiting.writer.take()));
                    continue;
                }
                Event::Reset(id, cause) => self.end(*id, Fate::Reset(*cause), wakers),
                Event::Refused {
                    stream,
                    code,
                    reason,
                } => self.end(*stream, Fate::Refused(*code, reason.clone()), wakers),
                Event::Stopped(id, _) => {
                    if let Some(waiting) = self.streams.get_mut(id) {
                        waiting.stopped = true;
                        waiting.wake(wakers);
                    }
                }
                Event::LaneClosed(id) => self.end_lane(*id, LaneFate::Close, wakers),
                Event::LaneDead(id) | Event::LaneRefused(id, _) => {
                    self.end_lane(*id, LaneFate::Drop, wakers);
                }
                Event::Closed(_) => {
                    for id in self.lanes.keys().copied().collect::<Vec<_>>() {
                        self.end_lane(id, LaneFate::Close, wakers);
                    }
                }
                _ => {}
            }
            if concerns_the_trunk(&event) {
                // Without a task that follows it the trunk is being let go.
                let _ = news.send(event);
            }
        }
    }

    fn end(&mut self, id: StreamId, fate: Fate, wakers: &mut Vec<Waker>) {
        if let Some(waiting) = self.streams.get_mut(&id) {
            waiting.fate.get_or_insert(fate);
            waiting.wake(wakers);
        }
    }

    pub(super) fn end_lane(&mut self, id: LaneId, fate: LaneFate, wakers: &mut Vec<Waker>) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.fate.get_or_insert(fate);
            lane.alive = None;
            wakers.extend(lane.slot.sleeper());
        }
    }

    /// Takes a stream that the other end opened.
    pub(super) fn accept(&mut self, id: StreamId) -> Result<(), StreamError> {
        self.streams.entry(id).or_default();
        self.trunk.accept(id)
    }

    /// Refuses a stream that the other end opened.
    pub(super) fn refuse(&mut self, id: StreamId, code: Code, reason: &str) {
        self.streams.remove(&id);
        // An error means that it is over already.
        let _ = self.trunk.refuse(id, code, reason);
    }

    /// The outlet of a lane that rests and has something to write.
    pub(super) fn claim_writer(&mut self) -> Option<(LaneId, Box<LaneWriter>)> {
        let trunk = &self.trunk;
        let mut lanes = self.lanes.iter_mut();
        let (id, lane) =
            lanes.find(|(id, lane)| lane.slot.is_resting() && trunk.has_output(**id))?;
        Some((*id, lane.slot.claim()?))
    }

    /// The task of a lane other than this that rests and has something to write.
    pub(super) fn sleeper_with_output(&self, not: LaneId) -> Option<Waker> {
        let mut lanes = self.lanes.iter();
        let (_, lane) = lanes.find(|(id, lane)| {
            **id != not && lane.slot.is_resting() && self.trunk.has_output(**id)
        })?;
        lane.slot.sleeper()
    }
}

/// Whether the trunk's own task has something to do; streams learn of their own events by being woken.
fn concerns_the_trunk(event: &Event) -> bool {
    matches!(
        event,
        Event::LaneReady(_)
            | Event::LaneRefused(..)
            | Event::Suspended { .. }
            | Event::GoingAway
            | Event::Closed(_)
    )
}
