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
    window: u64,
    window_max: u64,
    /// The peer said that it was held up.
    blocked: bool,
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
            window,
            window_max,
            blocked: false,
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

    /// The application wants no more. Whether the peer must be told.
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

    /// The peer is held up at `limit`; grow the window if the application keeps up. The limit may
    /// have been raised since, for that word is half a round trip old, and the window is still
    /// too small for the path.
    pub(crate) fn peer_blocked(&mut self, limit: u64) {
        self.blocked |= limit > self.grown_at && limit <= self.limit;
    }

    /// Complete up to here; the end counts one.
    fn position(&self) -> u64 {
        let next = self.assembly.next();
        next + u64::from(self.final_size == Some(next))
    }

    /// Whether the peer has been told of bytes before, and may be told again.
    pub(crate) fn acknowledgeable(&self) -> bool {
        self.acknowledged != u64::MAX && self.position() > 0
    }

    /// Whether an ACK is owed at all.
    pub(crate) fn unacknowledged(&self) -> bool {
        self.position() > self.acknowledged
    }

    /// Whether an ACK must not wait: many bytes, or the peer needs window. That of an end may
    /// wait: nobody is held up by it, and those of many streams go together.
    pub(crate) fn ack_is_urgent(&mut self) -> bool {
        let threshold = (self.window / 8).clamp(8 * 1024, 2048 * 1024);
        self.position().saturating_sub(self.acknowledged) >= threshold || self.window_is_urgent()
    }

    fn window_is_urgent(&mut self) -> bool {
        if self.state != State::Receiving || self.final_size.is_some() {
            return false;
        }
        if self.blocked && self.assembly.held() <= self.window / 2 {
            self.window = (self.window * 2).min(self.window_max);
            self.grown_at = self.limit;
            self.blocked = false;
        }
        let grown = (self.assembly.read() + self.window).saturating_sub(self.limit);
        grown > 0 && grown >= self.window / 4
    }

    /// The offset and limit of the ACK to send now.
    pub(crate) fn acknowledge(&mut self) -> (u64, u64) {
        let position = self.position();
        self.acknowledged = self.acknowledged.max(position);
        if self.state == State::Receiving {
            self.limit = self.limit.max(self.assembly.read() + self.window);
        }
        (position, self.limit)
    }
}
