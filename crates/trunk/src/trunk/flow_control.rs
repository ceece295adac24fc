//! The accounts of streams: memory, windows, acknowledgements owed, ends.

use std::time::Instant;

use bytes::Bytes;

use super::{MAX_CONTROL, MAX_FRAMES, Trunk};
use crate::error::{CloseReason, Violation};
use crate::event::{Event, ResetCause};
use crate::frame::{Frame, MAX_TEXT};
use crate::id::{Code, StreamId};
use crate::stream::{Change, Stream};

impl Trunk {
    /// Does something to a stream and carries what that changes into the trunk's accounts.
    pub(super) fn on_stream<R>(
        &mut self,
        id: StreamId,
        act: impl FnOnce(&mut Stream) -> R,
    ) -> Option<R> {
        let stream = self.streams.get_mut(&id)?;
        let before = stream.measure();
        let result = act(stream);
        let after = stream.measure();
        self.outgoing.kept = self.outgoing.kept + after.kept - before.kept;
        self.outgoing.unsent = self.outgoing.unsent + after.unsent - before.unsent;
        self.outgoing.frames = self.outgoing.frames + after.frames - before.frames;
        self.incoming.held = self.incoming.held + after.held - before.held;
        self.incoming.pieces = self.incoming.pieces + after.pieces - before.pieces;
        self.incoming.extra = self.incoming.extra + after.extra - before.extra;
        self.incoming.unread = self.incoming.unread + after.unread - before.unread;
        Some(result)
    }

    pub(super) fn account(&mut self, change: Change) {
        self.incoming.received += change.received;
        self.consume(change.consumed);
    }

    /// Bytes of the peer's need no memory any more: grants it others in their place.
    pub(super) fn consume(&mut self, bytes: u64) {
        let incoming = &mut self.incoming;
        incoming.consumed += bytes;
        let window = self.config.limits.trunk_window;
        let grown = incoming.consumed + window - incoming.limit;
        // Slow readers may hold most of the window: what is left must still go round.
        let left = incoming.limit - incoming.received;
        incoming.window_due |= grown >= window / 4 || grown > left;
    }

    /// Lets the stream send, or tells the peer that its window is full.
    pub(super) fn activate(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.send.sendable() {
            self.schedule.activate(id, &mut stream.turn);
        } else if self.greeted
            && let Some(limit) = stream.send.blocked()
        {
            self.control.push_back(Frame::Blocked { stream: id, limit });
        }
    }

    /// New bytes the peer's trunk window lets go.
    pub(super) fn credit(&self) -> u64 {
        self.outgoing.limit.saturating_sub(self.outgoing.sent)
    }

    /// Gives every stream with bytes a turn again, after the trunk's window or the number of
    /// frames held them up.
    pub(super) fn unblock(&mut self) {
        let outgoing = &mut self.outgoing;
        if !outgoing.blocked
            || outgoing.limit <= outgoing.sent
            || outgoing.frames >= MAX_FRAMES * 3 / 4
        {
            return;
        }
        outgoing.blocked = false;
        for stream in self
            .streams
            .values_mut()
            .filter(|stream| stream.send.sendable())
        {
            self.schedule.activate(stream.id, &mut stream.turn);
        }
    }

    /// Queues the stream's ACK if it is urgent; `now` lets it wait if it is not.
    pub(super) fn review_ack(&mut self, id: StreamId, now: Option<Instant>) {
        let room = self.room_for_window();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if stream.ack_queued {
            return;
        }
        if stream.receive.ack_is_urgent(room) {
            stream.ack_queued = true;
            self.acks.push_back(id);
        } else if let Some(now) = now
            && !stream.ack_delayed
            && stream.receive.unacknowledged()
        {
            stream.ack_delayed = true;
            self.delayed.push(id);
            self.ack_deadline.get_or_insert(now + self.config.ack_delay);
        }
    }

    /// What the stream's ACK says now.
    pub(super) fn acknowledge(&mut self, id: StreamId) -> Option<Frame> {
        let room = self.room_for_window();
        let (offset, limit) = self.on_stream(id, |stream| stream.receive.acknowledge(room))?;
        Some(Frame::Ack {
            stream: id,
            offset,
            limit,
        })
    }

    /// Forgets the stream once both its directions are over.
    pub(super) fn settle(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if !stream.over() {
            return;
        }
        if stream.receive.unacknowledged()
            && let Some(ack) = self.acknowledge(id)
        {
            self.owe(ack);
        }
        self.streams.remove(&id);
        self.writers.remove(&id);
        if id.opener() != self.side {
            self.incoming.ended += 1;
            let most = u64::from(self.config.limits.max_streams);
            let grown = self.incoming.ended + most - self.incoming.streams;
            let left = self.incoming.streams - self.incoming.next;
            self.incoming.window_due |= grown >= most / 4 || grown > left;
        }
    }

    /// Sends a frame that no stream waits for: with the next bytes, or with the next
    /// acknowledgements.
    pub(super) fn owe(&mut self, frame: Frame) {
        self.owed.push_back(frame);
        let soon = self.heard + self.config.ack_delay;
        self.ack_deadline.get_or_insert(soon);
    }

    /// The WINDOW to send now.
    pub(super) fn window(&mut self) -> Frame {
        let incoming = &mut self.incoming;
        incoming.window_due = false;
        incoming.limit = incoming.consumed + self.config.limits.trunk_window;
        incoming.streams = incoming.ended + u64::from(self.config.limits.max_streams);
        Frame::Window {
            bytes: incoming.limit,
            streams: incoming.streams,
        }
    }

    /// Takes no new streams, and asks the peer for none. Open streams continue.
    pub fn go_away(&mut self) {
        if !self.going_away && self.closed.is_none() {
            self.going_away = true;
            self.control.push_back(Frame::GoAway);
        }
    }

    /// Ends the trunk and resets every stream. Write what the lanes still have, then drop them.
    pub fn close(&mut self, code: Code, text: &str) {
        self.shut(CloseReason::Local(code), Some((code, text)));
    }

    pub(super) fn fail(&mut self, violation: &Violation) {
        let reason = CloseReason::Violation(violation.clone());
        self.shut(reason, Some((Code::VIOLATION, &violation.to_string())));
    }

    /// The peer lets our frames pile up: it is broken, or means us harm.
    pub(super) fn check_control(&mut self) {
        if self.control.len() + self.owed.len() > MAX_CONTROL {
            self.fail(&Violation::Unanswered);
        }
    }

    pub(super) fn shut(&mut self, reason: CloseReason, tell: Option<(Code, &str)>) {
        if self.closed.is_some() {
            return;
        }
        for (id, stream) in std::mem::take(&mut self.streams) {
            if !stream.receive.ended() || !stream.send.ended() {
                self.events.push_back(Event::Reset(id, ResetCause::Trunk));
            }
        }
        self.schedule = Default::default();
        self.resend.clear();
        self.control.clear();
        self.acks.clear();
        self.delayed.clear();
        self.owed.clear();
        self.ack_deadline = None;
        self.writers.clear();
        self.outgoing.kept = 0;
        self.outgoing.unsent = 0;
        self.outgoing.frames = 0;
        self.incoming.held = 0;
        self.incoming.pieces = 0;
        self.incoming.extra = 0;
        self.incoming.unread = 0;
        self.incoming.window_due = false;
        for lane in self.lanes.values_mut() {
            lane.pinned.clear();
            if let Some((code, text)) = tell {
                lane.pinned.push_back(Frame::Close {
                    code,
                    text: cut(text),
                });
            }
        }
        self.closed = Some(reason.clone());
        self.events.push_back(Event::Closed(reason));
    }
}

/// At most [`MAX_TEXT`] bytes of a text.
pub(super) fn cut(text: &str) -> Bytes {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Bytes::copy_from_slice(text.get(..end).unwrap_or_default().as_bytes())
}
