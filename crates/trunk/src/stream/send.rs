//! The send direction of a stream: what was written, what is on which lane, what is lost.
//!
//! ```text
//!   Open ── finish ──► Finishing ── all and the end acknowledged ──► Ended
//!     │                    │
//!     └── reset or STOP ───┴── RESET queued ───────────────────────► Ended
//! ```

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::flight::{Chunk, Flight};
use crate::frame::MAX_DATA;
use crate::id::LaneId;

/// Writes shorter than this are copied together, so that none keeps a read buffer alive.
const SMALL: usize = 2048;
/// Frames of one stream without an acknowledgement; small writes gather meanwhile.
const MAX_FRAMES: usize = 8 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Finishing,
    Ended,
}

#[derive(Debug)]
pub(crate) struct SendHalf {
    state: State,
    flight: Flight,
    unsent: VecDeque<Bytes>,
    tail: BytesMut,
    unsent_bytes: u64,
    /// The offset of the next new byte.
    next: u64,
    fin_sent: bool,
    /// Acknowledged up to here.
    acknowledged: u64,
    /// The peer takes bytes up to here.
    limit: u64,
    /// The limit of the last BLOCKED.
    blocked_at: Option<u64>,
}

impl SendHalf {
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            state: State::Open,
            flight: Flight::default(),
            unsent: VecDeque::new(),
            tail: BytesMut::new(),
            unsent_bytes: 0,
            next: 0,
            fin_sent: false,
            acknowledged: 0,
            limit,
            blocked_at: None,
        }
    }

    pub(crate) fn ended(&self) -> bool {
        self.state == State::Ended
    }

    pub(crate) fn open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether anything was ever written.
    pub(crate) fn used(&self) -> bool {
        self.next > 0 || self.unsent_bytes > 0
    }

    /// Bytes kept: unsent and unacknowledged.
    pub(crate) fn kept(&self) -> u64 {
        self.next.saturating_sub(self.acknowledged) + self.unsent_bytes
    }

    /// Bytes that no lane has had yet.
    pub(crate) fn unsent(&self) -> u64 {
        self.unsent_bytes
    }

    pub(crate) fn write(&mut self, data: Bytes) {
        self.unsent_bytes += data.len() as u64;
        if data.len() < SMALL {
            self.tail.extend_from_slice(&data);
            if self.tail.len() >= MAX_DATA {
                self.unsent
                    .push_back(std::mem::take(&mut self.tail).freeze());
            }
            return;
        }
        if !self.tail.is_empty() {
            self.unsent
                .push_back(std::mem::take(&mut self.tail).freeze());
        }
        self.unsent.push_back(data);
    }

    pub(crate) fn finish(&mut self) {
        if self.state == State::Open {
            self.state = State::Finishing;
        }
    }

    /// Ends the direction at once and drops everything; reports to `freed` which lane carried how many
    /// bytes. The size that the RESET announces.
    pub(crate) fn reset(&mut self, freed: impl FnMut(LaneId, u64)) -> u64 {
        self.flight.drop_all(freed);
        self.state = State::Ended;
        self.unsent = VecDeque::new();
        self.tail = BytesMut::new();
        self.unsent_bytes = 0;
        self.acknowledged = self.next;
        self.next
    }

    /// Whether new bytes or the end wait and may go, apart from the trunk's window.
    pub(crate) fn sendable(&self) -> bool {
        match self.state {
            State::Ended => false,
            _ if self.flight.frames() >= MAX_FRAMES => false,
            _ if self.unsent_bytes > 0 => self.next < self.limit,
            State::Finishing => !self.fin_sent,
            State::Open => false,
        }
    }

    /// The limit to complain about, once for each.
    pub(crate) fn blocked(&mut self) -> Option<u64> {
        let blocked = self.unsent_bytes > 0 && self.next >= self.limit && !self.ended();
        if !blocked || self.blocked_at == Some(self.limit) {
            return None;
        }
        self.blocked_at = Some(self.limit);
        Some(self.limit)
    }

    /// New bytes for a lane: at most `budget`, and at most the trunk's `credit`.
    pub(crate) fn send_new(&mut self, lane: LaneId, budget: usize, credit: u64) -> Option<Chunk> {
        if !self.sendable() || (credit == 0 && self.unsent_bytes > 0) {
            return None;
        }
        let window = (self.limit - self.next.min(self.limit)).min(credit);
        let most = usize::try_from(window)
            .unwrap_or(usize::MAX)
            .min(budget)
            .min(MAX_DATA);
        let data = self.take_unsent(most);
        let fin = self.state == State::Finishing && self.unsent_bytes == 0;
        let offset = self.next;
        self.next += data.len() as u64;
        self.fin_sent |= fin;
        let chunk = Chunk { offset, data, fin };
        self.flight.push(chunk.clone(), lane);
        Some(chunk)
    }

    fn take_unsent(&mut self, most: usize) -> Bytes {
        if self.unsent.is_empty() && !self.tail.is_empty() {
            self.unsent
                .push_back(std::mem::take(&mut self.tail).freeze());
        }
        let Some(front) = self.unsent.front_mut() else {
            return Bytes::new();
        };
        let data = front.split_to(most.min(front.len()));
        if front.is_empty() {
            self.unsent.pop_front();
        }
        self.unsent_bytes -= data.len() as u64;
        data
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.flight.has_lost()
    }

    /// Lost bytes for a lane; a frame longer than `budget` is cut in two.
    pub(crate) fn send_lost(&mut self, lane: LaneId, budget: usize) -> Option<Chunk> {
        self.flight.send_lost(lane, budget)
    }

    /// The lane is gone: what it carried is lost, or delivered if it drained.
    pub(crate) fn lane_gone(&mut self, lane: LaneId, drained: bool) {
        self.flight.lane_gone(lane, drained);
    }

    /// Whether an ACK of `offset` speaks of bytes that were sent.
    pub(crate) fn was_sent(&self, offset: u64) -> bool {
        offset <= self.next + u64::from(self.fin_sent)
    }

    /// Frees what is acknowledged; reports to `freed` which lane carried how many bytes of it.
    pub(crate) fn acknowledge(&mut self, offset: u64, limit: u64, freed: impl FnMut(LaneId, u64)) {
        self.limit = self.limit.max(limit);
        self.flight.acknowledge(offset, freed);
        self.acknowledged = self.acknowledged.max(offset.min(self.next));
        if self.fin_sent && offset > self.next {
            self.state = State::Ended;
        }
    }

    /// The peer's first grant, learnt after the stream was opened.
    pub(crate) fn raise_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Frames without an acknowledgement.
    pub(crate) fn frames(&self) -> usize {
        self.flight.frames()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LANE: LaneId = LaneId(1);

    #[test]
    fn lost_bytes_go_again_from_the_lowest_and_acknowledged_ones_are_freed() {
        let mut send = SendHalf::new(1 << 20);
        send.write(Bytes::from(vec![7; 5000]));
        send.finish();
        let first = send.send_new(LANE, 3000, u64::MAX).expect("first");
        let second = send.send_new(LaneId(2), 3000, u64::MAX).expect("second");
        assert_eq!((first.offset, second.offset, second.fin), (0, 3000, true));
        send.lane_gone(LANE, false);
        let again = send.send_lost(LaneId(2), 1000).expect("again");
        assert_eq!((again.offset, again.data.len()), (0, 1000));
        assert!(send.has_lost());
        let mut freed = 0;
        send.acknowledge(1500, 0, |_, bytes| freed += bytes);
        let rest = send.send_lost(LaneId(2), 9000).expect("rest");
        assert_eq!((rest.offset, rest.data.len(), freed), (1500, 1500, 1000));
        assert!(send.was_sent(5001) && !send.was_sent(5002));
        send.acknowledge(5001, 0, |_, bytes| freed += bytes);
        assert!(send.ended() && send.kept() == 0 && freed == 4500);
    }

    #[test]
    fn small_writes_gather_while_frames_wait() {
        let mut send = SendHalf::new(1 << 20);
        let mut frames = 0;
        for _ in 0..2 * MAX_FRAMES {
            send.write(Bytes::from_static(b"x"));
            frames += usize::from(send.send_new(LANE, 1000, u64::MAX).is_some());
        }
        assert_eq!(frames, MAX_FRAMES);
        send.acknowledge(1, 0, |_, _| ());
        let gathered = send.send_new(LANE, 65536, u64::MAX).expect("one more");
        assert_eq!(gathered.data.len(), MAX_FRAMES);
    }
}
