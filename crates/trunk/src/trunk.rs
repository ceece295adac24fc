//! The trunk: its lanes, its streams, and the accounts of both directions.

mod application;
mod flow_control;
mod lanes;
mod receive;
mod time;
mod transmit;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, LEAST, TrunkLimits};
use crate::error::{CloseReason, LaneRefusal};
use crate::event::Event;
use crate::frame::Frame;
use crate::hello::Hello;
use crate::id::{LaneId, StreamId, TrunkId, TrunkSide};
use crate::lane::{Lane, State};
use crate::schedule::Schedule;
use crate::stream::{Room, Stream};

/// Separate pieces held for reassembly in all streams: twice what a peer may have in flight,
/// and twice that again.
pub(crate) const MAX_PIECES: usize = 128 * 1024;
/// Bytes held beyond which new pieces are copied, so that memory they share is bounded.
pub(crate) const MAX_SHARED: u64 = 16 << 20;
/// DATA frames without an acknowledgement in all streams.
pub(crate) const MAX_FRAMES: usize = 32 * 1024;
/// Frames waiting for a lane beyond which the peer does not do its part.
pub(crate) const MAX_CONTROL: usize = 128 * 1024;
/// Bytes of memory that a stream costs without any bytes of its own, with the tables it is in.
const STREAM_COST: u64 = size_of::<Stream>() as u64 + 512;
/// The same of a piece of bytes that waits for others, or for its acknowledgement.
const PIECE_COST: u64 = 128;
/// Bytes any stream may keep even when the trunk's send buffer is full.
pub(crate) const LEAST_ROOM: u64 = 16 * 1024;

/// One trunk, seen from one end. See the [crate documentation](crate) for how to drive it.
#[derive(Debug)]
pub struct Trunk {
    side: TrunkSide,
    id: TrunkId,
    peer: Arc<str>,
    config: Config,
    /// The acceptor's name for its memory of the trunk; 0 at a dialer without an answer.
    incarnation: u64,
    lanes: BTreeMap<LaneId, Lane>,
    next_lane: u32,
    /// How many lanes the acceptor wants, with the serial of its last word.
    wanted: (u32, u32),
    /// Lanes that the acceptor takes at once. The dialer may have seen lanes die that still seem
    /// alive here.
    accepts: usize,
    /// How many lanes the acceptor lets the dialer use, and when it refused one more.
    taken: Option<(usize, Instant)>,
    streams: BTreeMap<StreamId, Stream>,
    schedule: Schedule,
    resend: VecDeque<StreamId>,
    /// After a resumption lost bytes wait for the peer's RESUMED.
    hold_resend: bool,
    control: VecDeque<Frame>,
    acks: VecDeque<StreamId>,
    /// Streams with something to acknowledge at the deadline.
    delayed: Vec<StreamId>,
    /// The last ACKs of streams that are over, which may wait as long.
    owed: VecDeque<Frame>,
    /// When bytes came last.
    heard: Instant,
    ack_deadline: Option<Instant>,
    outgoing: Outgoing,
    incoming: Incoming,
    /// Streams whose last write found too little room.
    writers: BTreeSet<StreamId>,
    /// One of them found the trunk's send buffer full.
    full: bool,
    /// What the process has left for all its trunks.
    elsewhere: u64,
    wants_stream: bool,
    going_away: bool,
    /// The peer's GOAWAY has been reported.
    peer_going_away: bool,
    /// A lane has been ready once.
    greeted: bool,
    suspended: Option<Instant>,
    closed: Option<CloseReason>,
    events: VecDeque<Event>,
}

/// What the peer grants us and what we made of it.
#[derive(Debug)]
struct Outgoing {
    limits: TrunkLimits,
    /// Streams we may have opened so far.
    streams: u64,
    /// Streams we have opened so far.
    opened: u64,
    /// Bytes we may have sent so far.
    limit: u64,
    /// Bytes we have sent so far.
    sent: u64,
    /// Bytes kept: unsent and unacknowledged.
    kept: u64,
    unsent: u64,
    /// DATA frames without an acknowledgement.
    frames: usize,
    /// Streams wait for the trunk's window or for frames to be acknowledged.
    blocked: bool,
}

/// What we grant the peer and what it made of it.
#[derive(Debug)]
struct Incoming {
    /// Streams the peer may have opened so far.
    streams: u64,
    /// Above the highest index that came.
    next: u64,
    /// Below `next`, but not come yet.
    missing: BTreeSet<u64>,
    /// Streams of the peer's that are over.
    ended: u64,
    limit: u64,
    received: u64,
    consumed: u64,
    held: u64,
    pieces: usize,
    /// Bytes granted and not read, beyond what every stream may have.
    extra: u64,
    /// Streams with bytes that wait for their readers.
    unread: u64,
    window_due: bool,
}

impl Trunk {
    /// The dialing end of a new trunk. `id` is 16 random bytes; `peer` names who answers on its
    /// lanes. Add a lane next.
    #[must_use]
    pub fn dial(now: Instant, config: Config, id: TrunkId, peer: &str) -> Self {
        Self::new(now, config, TrunkSide::Dialer, id, peer, 0, LEAST)
    }

    /// The accepting end, made for a HELLO that names a trunk not known here.
    /// `incarnation` is a random number other than 0. [`accept_lane`](Self::accept_lane) next.
    ///
    /// # Errors
    ///
    /// The dialer has had an answer before, so the trunk was known here once and is not any more.
    pub fn accept_trunk(
        now: Instant,
        config: Config,
        hello: &Hello,
        peer: &str,
        incarnation: u64,
    ) -> Result<Self, LaneRefusal> {
        if hello.incarnation != 0 {
            return Err(LaneRefusal::UnknownTrunk);
        }
        let incarnation = incarnation.max(1);
        let limits = hello.limits.bounded();
        Ok(Self::new(
            now,
            config,
            TrunkSide::Acceptor,
            hello.trunk,
            peer,
            incarnation,
            limits,
        ))
    }

    fn new(
        now: Instant,
        config: Config,
        side: TrunkSide,
        id: TrunkId,
        peer: &str,
        incarnation: u64,
        theirs: TrunkLimits,
    ) -> Self {
        let config = config.bounded();
        Self {
            side,
            id,
            peer: peer.into(),
            incarnation,
            lanes: BTreeMap::new(),
            next_lane: 0,
            wanted: (0, 1),
            accepts: config.max_lanes * 2,
            taken: None,
            streams: BTreeMap::new(),
            schedule: Schedule::default(),
            resend: VecDeque::new(),
            hold_resend: false,
            control: VecDeque::new(),
            acks: VecDeque::new(),
            delayed: Vec::new(),
            owed: VecDeque::new(),
            heard: now,
            ack_deadline: None,
            outgoing: Outgoing::new(theirs),
            incoming: Incoming::new(&config.limits),
            writers: BTreeSet::new(),
            full: false,
            elsewhere: u64::MAX,
            wants_stream: false,
            going_away: false,
            peer_going_away: false,
            greeted: false,
            suspended: Some(now),
            closed: None,
            events: VecDeque::new(),
            config,
        }
    }

    /// The trunk's name.
    #[must_use]
    pub fn id(&self) -> TrunkId {
        self.id
    }

    /// Who is at the other end of every lane.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// Which end this is.
    #[must_use]
    pub fn side(&self) -> TrunkSide {
        self.side
    }

    /// Why it is over, if it is.
    #[must_use]
    pub fn closed(&self) -> Option<&CloseReason> {
        self.closed.as_ref()
    }

    /// Streams that live.
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Streams that the peer takes at once, as far as it has said.
    #[must_use]
    pub fn streams_allowed(&self) -> usize {
        self.outgoing.limits.max_streams as usize
    }

    /// Lanes that live, whatever their state.
    pub fn lanes(&self) -> impl Iterator<Item = LaneId> + '_ {
        self.lanes.keys().copied()
    }

    /// Lanes that carry new bytes.
    #[must_use]
    pub fn ready_lanes(&self) -> usize {
        self.lanes.values().filter(|lane| lane.ready()).count()
    }

    /// Lanes that carry new bytes, or will once they are answered.
    #[must_use]
    pub fn coming_lanes(&self) -> usize {
        let draining = |lane: &&Lane| lane.state == State::Draining;
        self.lanes.len() - self.lanes.values().filter(draining).count()
    }

    /// Whether the lane carries new bytes.
    #[must_use]
    pub fn carries(&self, lane: LaneId) -> bool {
        self.lanes.get(&lane).is_some_and(Lane::ready)
    }

    /// The round trip of the lane's last PING.
    #[must_use]
    pub fn round_trip(&self, lane: LaneId) -> Option<Duration> {
        self.lanes.get(&lane).and_then(Lane::round_trip)
    }

    /// Bytes from the peer that are held for the application.
    #[must_use]
    pub fn bytes_held(&self) -> u64 {
        self.incoming.held
    }

    /// Bytes from the application that are held for the peer: unsent and unacknowledged.
    #[must_use]
    pub fn bytes_kept(&self) -> u64 {
        self.outgoing.kept
    }

    /// Bytes of memory that the trunk costs: what it holds and keeps, and what its streams and the
    /// pieces of their bytes cost themselves, whether the peer has opened them or not.
    #[must_use]
    pub fn memory(&self) -> u64 {
        let streams = self.streams.len() as u64 * STREAM_COST;
        let pieces = (self.incoming.pieces + self.outgoing.frames) as u64 * PIECE_COST;
        self.bytes_held() + self.bytes_kept() + streams + pieces
    }

    /// Bytes that no lane has had yet: how many lanes are worth waking. Some of them may wait for
    /// a window.
    #[must_use]
    pub fn bytes_unsent(&self) -> u64 {
        self.outgoing.unsent
    }

    /// Says how many bytes the process has left for this trunk: the fewer, the less its windows
    /// and its writers are given beyond the least.
    pub fn set_room(&mut self, bytes: u64) {
        self.elsewhere = bytes;
    }

    /// What is left for the window of a stream. Every stream with unread bytes has an equal part
    /// of what is free, so that there is always something left for the next; and each has its
    /// least, which is set aside.
    fn room_for_window(&self) -> Room {
        let limits = &self.config.limits;
        let free = self.config.unread.saturating_sub(self.incoming.held);
        let aside = u64::from(limits.max_streams) * limits.stream_window;
        let spare = limits.trunk_window - aside.min(limits.trunk_window / 2);
        Room {
            share: free.min(self.elsewhere) / (1 + self.incoming.unread),
            spare: spare.saturating_sub(self.incoming.extra),
        }
    }

    /// The next thing the driver should know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The most bytes [`bytes_kept`](Self::bytes_kept) can reach: the send buffer, and 16 KiB for
    /// every stream that lives.
    #[must_use]
    pub fn most_kept(&self) -> u64 {
        self.config.send_buffer as u64 + self.streams.len() as u64 * LEAST_ROOM
    }
}

impl Outgoing {
    fn new(limits: TrunkLimits) -> Self {
        Self {
            limits,
            streams: u64::from(limits.max_streams),
            opened: 0,
            limit: limits.trunk_window,
            sent: 0,
            kept: 0,
            unsent: 0,
            frames: 0,
            blocked: false,
        }
    }
}

impl Incoming {
    fn new(limits: &TrunkLimits) -> Self {
        Self {
            streams: u64::from(limits.max_streams),
            next: 0,
            missing: BTreeSet::new(),
            ended: 0,
            limit: limits.trunk_window,
            received: 0,
            consumed: 0,
            held: 0,
            pieces: 0,
            extra: 0,
            unread: 0,
            window_due: false,
        }
    }
}
