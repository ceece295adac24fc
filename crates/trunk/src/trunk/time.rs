//! What happens when nothing does.

use std::time::Instant;

use super::Trunk;
use crate::error::CloseReason;
use crate::id::LaneId;

impl Trunk {
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.closed.is_some() {
            return None;
        }
        let lanes = self
            .lanes
            .values()
            .map(|lane| lane.life_deadline(&self.config));
        let grace = self.suspended.map(|since| since + self.config.grace);
        lanes.chain(grace).chain(self.ack_deadline).min()
    }

    /// Time has passed: sends acknowledgements that waited, asks silent lanes for a life sign,
    /// gives up dead ones, and ends the trunk when its grace time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.closed.is_some() {
            return;
        }
        if self.ack_deadline.is_some_and(|deadline| deadline <= now) {
            self.flush_acks();
        }
        let config = self.config;
        let lanes = self.lanes.iter_mut();
        let dead: Vec<LaneId> = lanes
            .filter_map(|(id, lane)| (!lane.check_life(now, &config)).then_some(*id))
            .collect();
        for id in dead {
            self.lane_dead(now, id);
        }
        if self
            .suspended
            .is_some_and(|since| since + config.grace <= now)
        {
            self.shut(CloseReason::Lost, None);
        }
    }

    fn flush_acks(&mut self) {
        self.ack_deadline = None;
        self.control.append(&mut self.owed);
        for id in std::mem::take(&mut self.delayed) {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            stream.ack_delayed = false;
            if !stream.ack_queued && stream.receive.unacknowledged() {
                stream.ack_queued = true;
                self.acks.push_back(id);
            }
        }
        for lane in self.lanes.values_mut() {
            lane.tell_now();
        }
    }
}
