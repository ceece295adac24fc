//! The receive direction of a stream: window, order, end.
//!
//! ```text
//!                  DATA                    STOP sent
//!               ┌────────┐              ┌─────────────► Stopped ──┐
//!               ▼        │              │                         │ RESET, or the end
//!            Receiving ──┴──────────────┤                         ▼
//!                 │                     └─ end read by the app ► Ended
//!                 └── RESET ──► Reset ── what had come is read ──► Ended
//! ```
//!
//! A RESET takes back nothing that has come before it without a gap: as with TCP, the application
//! reads that first.
//!
//! # The window
//!
//! A stream has at least the window that it starts with. It is given more when the window, and not
//! its reader, holds the sender up: the sender said so (BLOCKED), and once the reader has read what
//! the sender was allowed then, little else waits for it. So in one round trip the reader delivers
//! most of a window, and a larger one would carry more. It is given less when half of the window or
//! more has waited all the time while a whole window was read: that half only stood in a queue. A limit cannot be
//! taken back, so that a window shrinks as its bytes are read.

use bytes::Bytes;

use super::assembly::Assembly;
use crate::error::Violation;
use crate::event::Read;
use crate::id::StreamId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Receiving,
    /// The application wants no more; bytes are counted and dropped until the peer's RESET.
    Stopped,
    /// The peer has reset it; bytes that came in order are still to be read.
    Reset,
    Ended,
}

/// Windows grow fourfold up to this, then twofold.
const QUICK: u64 = 4 << 20;
/// A window that is not needed stays as large as this while there is much room.
const EASY: u64 = 4 << 20;

/// What the trunk has left for a stream's window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// The most that a window should be, given what waits for slow readers.
    pub(crate) share: u64,
    /// Bytes that all streams together may still be granted beyond what is theirs.
    pub(crate) spare: u64,
}

/// What a frame changed, for the trunk's accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// Bytes by which the highest offset rose.
    pub(crate) received: u64,
    /// Bytes that need no memory any more: read or dropped.
    pub(crate) consumed: u64,
}

#[derive(Debug)]
pub(crate) struct ReceiveHalf {
    assembly: Assembly,
    state: State,
    /// The peer may send up to here.
    limit: u64,
    /// What a stream always has.
    least: u64,
    window: u64,
    window_max: u64,
    /// The limit that the peer said it was held up by.
    blocked: Option<u64>,
    /// The least that was held since so much had been read.
    lowest: u64,
    since: u64,
    /// What `limit` was when the window grew: being held up by one before is old news.
    grown_at: u64,
    highest: u64,
    final_size: Option<u64>,
    /// The last acknowledgement sent; none is owed after a RESET.
    acknowledged: u64,
}

impl ReceiveHalf {
    pub(crate) fn new(window: u64, window_max: u64) -> Self {
        Self {
            assembly: Assembly::default(),
            state: State::Receiving,
            limit: window,
            least: window,
            window,
            window_max,
            blocked: None,
            lowest: 0,
            since: 0,
            grown_at: 0,
            highest: 0,
            final_size: None,
            acknowledged: 0,
        }
    }

    pub(crate) fn ended(&self) -> bool {
        self.state == State::Ended
    }

    /// Whether the application still waits for bytes or for the end.
    pub(crate) fn wanted(&self) -> bool {
        self.state == State::Receiving
    }

    pub(crate) fn held(&self) -> u64 {
        self.assembly.held()
    }

    pub(crate) fn pieces(&self) -> usize {
        self.assembly.pieces()
    }

    /// Bytes that the peer may have unread here, beyond what every stream may have.
    pub(crate) fn extra(&self) -> u64 {
        let limit = match self.state {
            State::Receiving => self.final_size.unwrap_or(self.limit),
            State::Reset => self.assembly.next(),
            State::Stopped | State::Ended => return 0,
        };
        limit.saturating_sub(self.assembly.read() + self.least)
    }

    /// Whether a read would give bytes or the end.
    pub(crate) fn readable(&self) -> bool {
        let bytes = self.assembly.next() > self.assembly.read();
        match self.state {
            State::Receiving => bytes || self.final_size == Some(self.assembly.read()),
            State::Reset => bytes,
            State::Stopped | State::Ended => false,
        }
    }

    /// How far the highest offset would rise; checks it against window and end.
    pub(crate) fn check(&self, id: StreamId, end: u64, fin: bool) -> Result<u64, Violation> {
        let contradicts = match self.final_size {
            Some(size) => end > size || (fin && end != size),
            None => fin && end < self.highest,
        };
        if contradicts {
            return Err(Violation::FinalSize(id.0));
        }
        if end > self.limit {
            return Err(Violation::StreamWindow(id.0));
        }
        Ok(end.saturating_sub(self.highest))
    }

    /// Bytes that [`check`](Self::check) has passed.
    pub(crate) fn data(&mut self, offset: u64, data: Bytes, fin: bool, memory: usize) -> Change {
        let end = offset + data.len() as u64;
        let received = end.saturating_sub(self.highest);
        self.highest = self.highest.max(end);
        if fin {
            self.final_size = Some(end);
        }
        match self.state {
            State::Receiving => {
                self.assembly.insert(offset, data, memory);
                Change {
                    received,
                    consumed: 0,
                }
            }
            State::Stopped => {
                if fin {
                    self.state = State::Ended;
                }
                Change {
                    received,
                    consumed: received,
                }
            }
            State::Reset | State::Ended => Change::default(),
        }
    }

    /// The peer's RESET, whose size [`check`](Self::check) has passed.
    pub(crate) fn reset(&mut self, final_size: u64) -> Change {
        let received = final_size.saturating_sub(self.highest);
        let consumed = match self.state {
            State::Receiving => final_size - self.assembly.next(),
            State::Stopped => received,
            State::Reset | State::Ended => 0,
        };
        self.highest = final_size;
        self.final_size = Some(final_size);
        self.acknowledged = u64::MAX;
        self.assembly.clear_early();
        self.state = match self.state {
            State::Receiving | State::Reset if self.assembly.held() > 0 => State::Reset,
            _ => State::Ended,
        };
        Change { received, consumed }
    }

    /// The application wants no more. Whether the peer must be asked to stop.
    pub(crate) fn stop(&mut self) -> (Change, bool) {
        let consumed = match self.state {
            State::Receiving => self.highest - self.assembly.read(),
            State::Reset => self.assembly.held(),
            State::Stopped | State::Ended => return (Change::default(), false),
        };
        let complete = self.final_size == Some(self.assembly.next());
        self.assembly.clear();
        let known = self.final_size.is_some();
        let reset = self.state == State::Reset;
        self.state = if known { State::Ended } else { State::Stopped };
        (
            Change {
                received: 0,
                consumed,
            },
            !complete && !reset,
        )
    }

    pub(crate) fn read(&mut self, max: usize) -> Read {
        if matches!(self.state, State::Receiving | State::Reset)
            && let Some(data) = self.assembly.take(max)
        {
            self.lowest = self.lowest.min(self.assembly.held());
            if self.state == State::Reset && self.assembly.held() == 0 {
                self.state = State::Ended;
            }
            return Read::Data(data);
        }
        if self.state == State::Receiving && self.final_size == Some(self.assembly.read()) {
            self.state = State::Ended;
            return Read::Finished;
        }
        Read::Pending
    }

    /// The peer is held up at `limit`. Being held up by one from before the window grew is old
    /// news.
    pub(crate) fn peer_blocked(&mut self, limit: u64) {
        if limit > self.grown_at && limit <= self.limit {
            self.blocked = Some(limit);
        }
    }

    /// Complete up to here; the end counts one.
    fn position(&self) -> u64 {
        let next = self.assembly.next();
        next + u64::from(self.final_size == Some(next))
    }

    /// Whether the peer has had a window before, and may get a larger one.
    pub(crate) fn acknowledgeable(&self) -> bool {
        self.acknowledged != u64::MAX && self.position() > 0
    }

    /// Whether an ACK is owed at all.
    pub(crate) fn unacknowledged(&self) -> bool {
        self.position() > self.acknowledged
    }

    /// Whether an ACK must not wait: many bytes, or the peer needs window. That of an end may
    /// wait: no stream waits for it, and those of many streams go together.
    pub(crate) fn ack_is_urgent(&mut self, room: Room) -> bool {
        let threshold = (self.window / 8).clamp(8 * 1024, 2048 * 1024);
        self.position().saturating_sub(self.acknowledged) >= threshold
            || self.window_is_urgent(room)
    }

    fn window_is_urgent(&mut self, room: Room) -> bool {
        if self.state != State::Receiving || self.final_size.is_some() {
            return false;
        }
        self.resize(room);
        let grown = self.next_limit(room).saturating_sub(self.limit);
        grown > 0 && grown >= self.allowed(room) / 4
    }

    /// Follows what the reader does with the window.
    fn resize(&mut self, room: Room) {
        let held = self.assembly.held();
        let caught_up = |blocked| self.assembly.read() >= blocked;
        if self.blocked.is_some_and(caught_up) {
            self.blocked = None;
            let factor = if self.window < QUICK { 4 } else { 2 };
            let most = self.window_max.min(room.share);
            if held <= self.window / 4 {
                self.window = self.window.max(most.min(self.window * factor));
                self.grown_at = self.limit;
            }
        }
        let easy = EASY.min(room.share / 16).max(self.least);
        let read = self.assembly.read();
        if read - self.since >= self.window {
            if self.lowest >= self.window / 2 && self.window > easy {
                self.window = easy.max(self.window / 2);
            }
            self.since = read;
            self.lowest = held;
        }
    }

    /// The window, as far as the trunk has room for it.
    fn allowed(&self, room: Room) -> u64 {
        self.window.min(room.share.max(self.least))
    }

    fn next_limit(&self, room: Room) -> u64 {
        let read = self.assembly.read();
        let spare = (self.limit + room.spare / 4).max(read + self.least);
        self.limit.max(spare.min(read + self.allowed(room)))
    }

    /// The offset and limit of the ACK to send now.
    pub(crate) fn acknowledge(&mut self, room: Room) -> (u64, u64) {
        let position = self.position();
        self.acknowledged = self.acknowledged.max(position);
        if self.state == State::Receiving && self.final_size.is_none() {
            self.resize(room);
            self.limit = self.next_limit(room);
        }
        (position, self.limit)
    }
}
