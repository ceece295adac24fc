//! Lanes come, drain and die.

use std::time::{Duration, Instant};

use super::Trunk;
use crate::error::{CloseReason, LaneError, LaneRefusal};
use crate::event::Event;
use crate::frame::Frame;
use crate::hello::Hello;
use crate::id::{LaneId, StreamId, TrunkSide};
use crate::lane::{Lane, State};

/// How long it is believed that the other end takes no more lanes.
const FULL: Duration = Duration::from_mins(5);

impl Trunk {
    /// Adds a lane to a dialing trunk: `peer` is who was authenticated on it.
    ///
    /// # Errors
    ///
    /// The trunk is over, is the accepting end, or has lanes enough; or the peer is another.
    pub fn add_lane(&mut self, now: Instant, peer: &str) -> Result<LaneId, LaneError> {
        if self.closed.is_some() {
            return Err(LaneError::Closed);
        }
        if self.side != TrunkSide::Dialer {
            return Err(LaneError::NotDialer);
        }
        if *peer != *self.peer {
            return Err(LaneRefusal::Identity.into());
        }
        if self.lanes.len() >= self.config.max_lanes {
            return Err(LaneRefusal::TooManyLanes.into());
        }
        let id = LaneId(self.next_lane);
        self.next_lane += 1;
        let mut lane = Lane::new(now, State::Greeting { since: now });
        lane.pinned.push_back(Frame::Hello(self.hello(id)));
        self.lanes.insert(id, lane);
        Ok(id)
    }

    fn hello(&self, lane: LaneId) -> Hello {
        let oldest = self.lanes.keys().next().copied().unwrap_or(lane).min(lane);
        let (trunk, incarnation, limits) = (self.id, self.incarnation, self.config.limits);
        Hello {
            trunk,
            incarnation,
            lane,
            oldest,
            limits,
        }
    }

    /// Takes the lane on which `hello` came, from the authenticated `peer`.
    ///
    /// # Errors
    ///
    /// The lane is not wanted: write [`LaneRefusal::frame`] on it and close it.
    pub fn accept_lane(
        &mut self,
        now: Instant,
        hello: &Hello,
        peer: &str,
    ) -> Result<LaneId, LaneRefusal> {
        if *peer != *self.peer {
            return Err(LaneRefusal::Identity);
        }
        let known = hello.incarnation == 0 || hello.incarnation == self.incarnation;
        let ours = self.side == TrunkSide::Acceptor && hello.trunk == self.id && known;
        if self.closed.is_some() || !ours {
            return Err(LaneRefusal::UnknownTrunk);
        }
        if hello.oldest > hello.lane {
            return Err(LaneRefusal::Malformed);
        }
        let over: Vec<LaneId> = self
            .lanes
            .range(..hello.oldest)
            .map(|(id, _)| *id)
            .collect();
        for id in over {
            self.lane_dead(now, id);
        }
        if self.lanes.contains_key(&hello.lane) {
            return Err(LaneRefusal::LaneInUse);
        }
        if self.lanes.len() >= self.accepts {
            return Err(LaneRefusal::TooManyLanes);
        }
        let mut lane = Lane::new(now, State::Ready);
        lane.pinned.push_back(Frame::Hello(self.hello(hello.lane)));
        self.lanes.insert(hello.lane, lane);
        self.lane_ready(hello.lane);
        Ok(hello.lane)
    }

    /// Takes no more than `lanes` from now on; those that are there stay. The dialer may need one
    /// more than it uses, to replace another.
    pub fn limit_accepted(&mut self, lanes: usize) {
        self.accepts = lanes.clamp(1, self.config.max_lanes * 2);
    }

    /// The lane has greeted. After a time without lanes both ends say what they have.
    pub(super) fn lane_ready(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.state = State::Ready;
        }
        self.events.push_back(Event::LaneReady(id));
        if self.suspended.take().is_some() && self.greeted {
            self.hold_resend = true;
            self.tell_received(id);
            self.events.push_back(Event::Resumed);
        }
        self.greeted = true;
    }

    /// Says on this lane what has been received, so that nothing of it is sent again.
    pub(super) fn tell_received(&mut self, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        if !lane.ready() {
            self.control.push_back(Frame::Resumed);
            return;
        }
        if std::mem::replace(&mut lane.resumed_sent, true) {
            return;
        }
        let streams = self.streams.values();
        let received: Vec<StreamId> = streams
            .filter(|stream| stream.receive.acknowledgeable())
            .map(|stream| stream.id)
            .collect();
        let mut said: Vec<Frame> = received
            .into_iter()
            .filter_map(|stream| self.acknowledge(stream))
            .collect();
        said.push(Frame::Resumed);
        if let Some(lane) = self.lanes.get_mut(&id) {
            lane.pinned.extend(said);
        }
    }

    /// Asks the dialer for so many lanes in all, at most as many as it likes: the accepting end
    /// cannot add any. Does nothing at the dialing end.
    pub fn want_lanes(&mut self, lanes: usize) {
        let lanes = u32::try_from(lanes).unwrap_or(u32::MAX);
        let (serial, before) = self.wanted;
        if self.side == TrunkSide::Acceptor && self.closed.is_none() && lanes != before {
            let serial = serial.saturating_add(1);
            self.wanted = (serial, lanes);
            self.control.push_back(Frame::Lanes { serial, lanes });
        }
    }

    /// How many lanes the acceptor's bytes need, by its last word: from 1 to as many as there may
    /// be.
    #[must_use]
    pub fn lanes_wanted(&self) -> usize {
        let wanted = usize::try_from(self.wanted.1).unwrap_or(usize::MAX);
        wanted.clamp(1, self.config.max_lanes)
    }

    /// How many lanes the acceptor lets the dialer use, if it has refused one more not long ago.
    #[must_use]
    pub fn lanes_taken(&self, now: Instant) -> Option<usize> {
        let recent = |(_, since): &(usize, Instant)| now.duration_since(*since) < FULL;
        self.taken.filter(recent).map(|(lanes, _)| lanes)
    }

    /// The lane's connection is gone, in whatever way but [`Event::LaneClosed`]. What it carried
    /// and was not acknowledged goes out again on other lanes.
    pub fn lane_down(&mut self, now: Instant, id: LaneId) {
        if self.lanes.contains_key(&id) {
            self.drop_lane(now, id, false);
        }
    }

    pub(super) fn lane_dead(&mut self, now: Instant, id: LaneId) {
        self.drop_lane(now, id, false);
        self.events.push_back(Event::LaneDead(id));
    }

    fn drop_lane(&mut self, now: Instant, id: LaneId, drained: bool) {
        let Some(lane) = self.lanes.remove(&id) else {
            return;
        };
        if self.closed.is_some() {
            return;
        }
        for stream in self.streams.values_mut() {
            stream.send.lane_gone(id, drained);
            if stream.send.has_lost() && !stream.resending {
                stream.resending = true;
                self.resend.push_back(stream.id);
            }
        }
        let again = lane.uncounted.into_iter().chain(lane.pinned);
        let again = again.filter(|frame| frame.counted() && *frame != Frame::LaneClose);
        for frame in again.collect::<Vec<_>>().into_iter().rev() {
            self.control.push_front(frame);
        }
        self.check_control();
        self.review_suspension(now);
    }

    /// Stops using the lane for anything new and closes it once all it carries has arrived.
    /// [`Event::LaneClosed`] says when its connection can be closed.
    pub fn close_lane(&mut self, now: Instant, id: LaneId) {
        let Some(lane) = self.lanes.get_mut(&id) else {
            return;
        };
        match lane.state {
            State::Greeting { .. } => self.lane_dead(now, id),
            State::Ready => {
                lane.state = State::Draining;
                self.review_suspension(now);
            }
            State::Draining => {}
        }
    }

    /// Lets go of the lane once both ends have closed it.
    pub(super) fn review_drained(&mut self, now: Instant, id: LaneId) {
        if self.lanes.get(&id).is_some_and(Lane::drained) {
            self.drop_lane(now, id, true);
            self.events.push_back(Event::LaneClosed(id));
        }
    }

    pub(super) fn review_suspension(&mut self, now: Instant) {
        if self.suspended.is_none() && self.closed.is_none() && self.ready_lanes() == 0 {
            self.suspended = Some(now);
            self.events.push_back(Event::Suspended {
                until: now + self.config.grace,
            });
        }
    }

    /// The acceptor does not take the lane.
    pub(super) fn lane_refused(&mut self, now: Instant, id: LaneId, refusal: LaneRefusal) {
        self.drop_lane(now, id, false);
        self.events.push_back(Event::LaneRefused(id, refusal));
        match refusal {
            LaneRefusal::UnknownTrunk => self.shut(CloseReason::Forgotten, None),
            // The last of those that it takes is for the replacement of another.
            LaneRefusal::TooManyLanes => {
                let lanes = self.coming_lanes().saturating_sub(1).max(1);
                self.taken = Some((lanes, now));
            }
            LaneRefusal::LaneInUse => {}
            _ if self.greeted => {}
            _ => self.shut(CloseReason::Refused(refusal), None),
        }
    }
}
