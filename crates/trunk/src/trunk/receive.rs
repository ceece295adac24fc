//! Frames in. Whatever a peer sends, this answers with an event, silence or a violation.

mod frames;

use std::time::Instant;

use bytes::Bytes;

use super::Trunk;
use crate::decode::text;
use crate::error::{CloseReason, Violation};
use crate::event::Event;
use crate::frame::{Frame, kind};
use crate::hello::Hello;
use crate::id::{Code, LaneId, StreamId, TrunkSide};
use crate::lane::State;

/// What is known of a stream that a frame names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Live,
    /// Over and forgotten: the frame was late.
    Gone,
    /// The peer's, and this is its first frame.
    New,
}

impl Trunk {
    /// Takes bytes read from the lane. The memory of `input` may be kept until the application
    /// has read it, so let each read have a buffer of its own.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol, and the trunk is closed: write what the lanes still have.
    pub fn receive(&mut self, now: Instant, id: LaneId, input: Bytes) -> Result<(), Violation> {
        let memory = input.len();
        self.receive_part(now, id, input, memory)
    }

    /// The same for bytes that share their memory, so much altogether, with others: pieces of
    /// less than a tenth of it are copied rather than kept, and all are while much is held.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    pub fn receive_part(
        &mut self,
        now: Instant,
        id: LaneId,
        mut input: Bytes,
        memory: usize,
    ) -> Result<(), Violation> {
        self.heard = now;
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.heard(now);
        }
        let mut result = Ok(());
        while result.is_ok() && self.closed.is_none() {
            match self.next_frame(now, id, &mut input) {
                Ok(Some(frame)) => result = self.frame(now, id, frame, memory),
                Ok(None) => break,
                Err(violation) => result = Err(violation),
            }
        }
        if let Err(violation) = &result {
            self.fail(violation);
        }
        self.check_control();
        result
    }

    fn next_frame(
        &mut self,
        now: Instant,
        id: LaneId,
        input: &mut Bytes,
    ) -> Result<Option<Frame>, Violation> {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Ok(None);
        };
        if !matches!(lane.state, State::Greeting { .. }) {
            return lane.decoder.next(input);
        }
        match lane.decoder.greeting(input) {
            Ok(Some(Frame::Refused(refusal))) | Err(refusal) => {
                self.lane_refused(now, id, refusal);
                Ok(None)
            }
            Ok(frame) => Ok(frame),
        }
    }

    fn frame(
        &mut self,
        now: Instant,
        id: LaneId,
        frame: Frame,
        memory: usize,
    ) -> Result<(), Violation> {
        self.count(now, id, &frame)?;
        match frame {
            Frame::Hello(hello) => self.greeted(id, &hello)?,
            Frame::Refused(_) => return Err(Violation::Greeting),
            Frame::Window { bytes, streams } => self.granted(bytes, streams),
            Frame::Resumed => {
                self.hold_resend = false;
                self.tell_received(id);
            }
            Frame::GoAway => {
                self.going_away = true;
                if !std::mem::replace(&mut self.peer_going_away, true) {
                    self.events.push_back(Event::GoingAway);
                }
            }
            Frame::Lanes { serial, lanes } => self.told_lanes(serial, lanes)?,
            Frame::Close { code, text: bytes } => {
                self.shut(
                    CloseReason::Peer {
                        code,
                        text: text(&bytes),
                    },
                    None,
                );
            }
            Frame::LaneAck { .. } | Frame::Ping { .. } | Frame::Pong { .. } | Frame::LaneClose => {
                self.about_lane(now, id, &frame)?;
            }
            about_stream => self.stream_frame(now, about_stream, memory)?,
        }
        Ok(())
    }

    /// The acceptor cannot dial: it says how many lanes its bytes need.
    fn told_lanes(&mut self, serial: u32, lanes: u32) -> Result<(), Violation> {
        if self.side == TrunkSide::Acceptor {
            return Err(Violation::UnknownFrame(kind::LANES));
        }
        if serial > self.wanted.0 {
            self.wanted = (serial, lanes);
        }
        Ok(())
    }

    /// Counts the frame if it is counted; holds the peer to its LANE_CLOSE.
    fn count(&mut self, now: Instant, id: LaneId, frame: &Frame) -> Result<(), Violation> {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Ok(());
        };
        let counted = frame.counted();
        if lane.close_received && (counted || matches!(frame, Frame::Data { .. })) {
            return Err(Violation::AfterLaneClose);
        }
        if counted && lane.count() {
            self.ack_deadline.get_or_insert(now + self.config.ack_delay);
        }
        Ok(())
    }

    fn about_lane(&mut self, now: Instant, id: LaneId, frame: &Frame) -> Result<(), Violation> {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return Ok(());
        };
        match frame {
            Frame::LaneAck { count } => lane.lane_ack(*count)?,
            Frame::Ping { nonce } => lane.ping(*nonce),
            Frame::Pong { nonce } => lane.ponged(now, *nonce),
            _ => {
                lane.close_received = true;
                lane.state = State::Draining;
                lane.tell_now();
                self.review_suspension(now);
            }
        }
        self.review_drained(now, id);
        Ok(())
    }

    /// The acceptor's answer. One of another incarnation has forgotten what it was asked.
    fn greeted(&mut self, id: LaneId, hello: &Hello) -> Result<(), Violation> {
        let greeting = |lane: &crate::lane::Lane| matches!(lane.state, State::Greeting { .. });
        if !self.lanes.get(&id).is_some_and(greeting) {
            return Err(Violation::Greeting);
        }
        if hello.trunk != self.id || hello.lane != id || hello.incarnation == 0 {
            return Err(Violation::Answer);
        }
        if !hello.limits.in_bounds() {
            return Err(Violation::TrunkLimits);
        }
        if self.incarnation == 0 {
            self.incarnation = hello.incarnation;
            self.first_limits(hello);
        } else if self.incarnation != hello.incarnation {
            self.shut(
                CloseReason::Forgotten,
                Some((Code::CANCELLED, "another incarnation")),
            );
            return Ok(());
        }
        self.lane_ready(id);
        Ok(())
    }

    fn first_limits(&mut self, hello: &Hello) {
        self.outgoing.limits = hello.limits;
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.on_stream(id, |stream| {
                stream.send.raise_limit(hello.limits.stream_window)
            });
            self.activate(id);
            self.review_writers(id);
        }
        self.granted(
            hello.limits.trunk_window,
            u64::from(hello.limits.max_streams),
        );
    }

    fn granted(&mut self, bytes: u64, streams: u64) {
        let outgoing = &mut self.outgoing;
        outgoing.limit = outgoing.limit.max(bytes);
        outgoing.streams = outgoing.streams.max(streams);
        if self.wants_stream && outgoing.opened < outgoing.streams {
            self.wants_stream = false;
            self.events.push_back(Event::StreamsAvailable);
        }
        self.unblock();
    }

    /// Finds the stream that a frame names, and makes a new one of the peer's.
    fn locate(&mut self, id: StreamId) -> Result<Known, Violation> {
        if id.opener() == self.side {
            if id.index() >= self.outgoing.opened {
                return Err(Violation::UnknownStream(id.0));
            }
            return Ok(self.live(id));
        }
        let index = id.index();
        if index >= self.incoming.streams {
            return Err(Violation::StreamLimit(id.0));
        }
        if index < self.incoming.next && !self.incoming.missing.remove(&index) {
            return Ok(self.live(id));
        }
        while self.incoming.next < index {
            self.incoming.missing.insert(self.incoming.next);
            self.incoming.next += 1;
        }
        self.incoming.next = self.incoming.next.max(index + 1);
        let stream = self.new_stream(id);
        self.streams.insert(id, stream);
        Ok(Known::New)
    }

    fn live(&self, id: StreamId) -> Known {
        if self.streams.contains_key(&id) {
            Known::Live
        } else {
            Known::Gone
        }
    }
}
