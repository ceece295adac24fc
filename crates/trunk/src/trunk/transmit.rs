//! Frames out. A lane pulls when it can write, so that bytes go where there is room.

use std::time::Instant;

use super::{MAX_FRAMES, Trunk};
use crate::encode::Transmit;
use crate::frame::Frame;
use crate::id::{LaneId, StreamId};
use crate::schedule::Schedule;
use crate::stream::Chunk;

/// DATA frames are not cut shorter than this to fit a budget.
const LEAST_BUDGET: usize = 512;

impl Trunk {
    /// The next frame for this lane, or `None` when it has nothing to carry. DATA frames carry at
    /// most `budget` bytes (at least 512); other frames have at most about 1 KiB.
    ///
    /// What was polled must be written, in order; a lane that cannot must be taken down.
    pub fn poll_transmit(&mut self, now: Instant, id: LaneId, budget: usize) -> Option<Transmit> {
        let lane = self.lanes.get_mut(&id)?;
        let frame = match lane.pinned.front() {
            Some(frame) if !frame.counted() || lane.takes_control() => lane.pinned.pop_front(),
            _ if self.closed.is_some() => None,
            _ => lane.own_frame(now),
        };
        if let Some(frame) = frame {
            lane.sent(&frame);
            self.review_drained(now, id);
            return Some(frame.encode());
        }
        if self.closed.is_some() || !lane.ready() {
            return None;
        }
        let frame = self
            .control_frame(id)
            .or_else(|| self.data_frame(now, id, budget.max(LEAST_BUDGET)))
            // Looking for data may have found that a window is full, and the peer gets to know that.
            .or_else(|| self.control_frame(id));
        frame.map(Frame::encode)
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something for this lane: when to
    /// wake its writer. Rarely, it then has nothing after all, and this turns false.
    #[must_use]
    pub fn has_output(&self, id: LaneId) -> bool {
        let Some(lane) = self.lanes.get(&id) else {
            return false;
        };
        if self.closed.is_some() || !lane.ready() {
            return !lane.pinned.is_empty() || (self.closed.is_none() && lane.has_own_output());
        }
        let control = self.incoming.window_due || !self.control.is_empty() || !self.acks.is_empty();
        lane.has_own_output()
            || (control && lane.takes_control())
            || (!self.hold_resend && !self.resend.is_empty())
            || (!self.schedule.is_empty() && self.outgoing.frames < MAX_FRAMES)
    }

    fn control_frame(&mut self, id: LaneId) -> Option<Frame> {
        if !self.lanes.get(&id)?.takes_control() {
            return None;
        }
        let frame = self.next_control()?;
        self.lanes.get_mut(&id)?.sent(&frame);
        Some(frame)
    }

    fn next_control(&mut self) -> Option<Frame> {
        if self.incoming.window_due {
            return Some(self.window());
        }
        if let Some(frame) = self.control.pop_front() {
            return Some(frame);
        }
        // What goes out anyway takes them along.
        if !self.owed.is_empty() && !self.schedule.is_empty() {
            return self.owed.pop_front();
        }
        while let Some(id) = self.acks.pop_front() {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.ack_queued = false;
            if stream.receive.acknowledgeable() {
                return self.acknowledge(id);
            }
        }
        None
    }

    fn data_frame(&mut self, now: Instant, lane: LaneId, budget: usize) -> Option<Frame> {
        let (stream, chunk) = match self.lost_chunk(lane, budget) {
            Some(lost) => lost,
            None => self.new_chunk(lane, budget)?,
        };
        if let Some(lane) = self.lanes.get_mut(&lane) {
            lane.carries(now, chunk.data.len());
        }
        let Chunk { offset, data, fin } = chunk;
        Some(Frame::Data {
            stream,
            offset,
            data,
            fin,
        })
    }

    /// Bytes whose lane died go before new ones.
    fn lost_chunk(&mut self, lane: LaneId, budget: usize) -> Option<(StreamId, Chunk)> {
        if self.hold_resend {
            return None;
        }
        while let Some(id) = self.resend.pop_front() {
            let chunk = self.on_stream(id, |stream| {
                let chunk = stream.send.send_lost(lane, budget);
                stream.resending = stream.send.has_lost();
                (chunk, stream.resending)
            });
            let Some((chunk, more)) = chunk else { continue };
            if more {
                self.resend.push_back(id);
            }
            if let Some(chunk) = chunk {
                return Some((id, chunk));
            }
        }
        None
    }

    fn new_chunk(&mut self, lane: LaneId, budget: usize) -> Option<(StreamId, Chunk)> {
        if self.outgoing.frames >= MAX_FRAMES {
            self.outgoing.blocked = true;
            return None;
        }
        let credit = self.credit();
        while let Some(id) = self.schedule.front() {
            let Some(stream) = self.streams.get_mut(&id) else {
                self.schedule.gone();
                continue;
            };
            if self.schedule.spent(id, &mut stream.turn) {
                continue;
            }
            let chunk = self.on_stream(id, |stream| stream.send.send_new(lane, budget, credit));
            let stream = self.streams.get_mut(&id)?;
            if let Some(chunk) = chunk.flatten() {
                Schedule::sent(&mut stream.turn, chunk.data.len());
                self.outgoing.sent += chunk.data.len() as u64;
                self.review_writers(id);
                return Some((id, chunk));
            }
            self.outgoing.blocked |= stream.send.sendable();
            self.schedule.idle(id, &mut stream.turn);
            if let Some(limit) = stream.send.blocked() {
                self.control.push_back(Frame::Blocked { stream: id, limit });
            }
        }
        None
    }
}
