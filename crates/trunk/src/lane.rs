//! One lane: greeting, life signs, counted frames, draining.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::decode::Decoder;
use crate::error::Violation;
use crate::frame::Frame;

/// Counted frames that may wait for the peer's LANE_ACK; then the lane carries no more of them.
const MAX_UNCOUNTED: usize = 4096;
/// Frames counted before they are acknowledged at once.
const TELL_AFTER: u64 = 64;

/// ```text
///  Greeting ── HELLO answered ──► Ready ── close_lane, or LANE_CLOSE came ──► Draining ──► closed
///     └──────────────┴──────────────── silence, lane_down ──────────────────────┴───► dead
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Greeting { since: Instant },
    Ready,
    Draining,
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) state: State,
    pub(crate) decoder: Decoder,
    /// Frames that belong on this lane alone, in order.
    pub(crate) pinned: VecDeque<Frame>,
    /// Counted frames sent and not yet counted by the peer.
    pub(crate) uncounted: VecDeque<Frame>,
    pub(crate) resumed_sent: bool,
    pub(crate) close_sent: bool,
    pub(crate) close_received: bool,
    counted_by_peer: u64,
    counted: u64,
    acknowledged: u64,
    tell: bool,
    pong: Option<u64>,
    ping_due: bool,
    nonce: u64,
    ping_sent: Option<Instant>,
    round_trip: Option<Duration>,
    /// The last sign of life: bytes, or an acknowledgement of bytes it carried.
    heard: Instant,
    /// Since when it has carried unacknowledged bytes without a pause.
    busy_since: Instant,
    pub(crate) in_flight: u64,
    /// When a life sign was asked for.
    asked: Option<Instant>,
}

impl Lane {
    pub(crate) fn new(now: Instant, state: State) -> Self {
        Self {
            state,
            decoder: Decoder::default(),
            pinned: VecDeque::new(),
            uncounted: VecDeque::new(),
            resumed_sent: false,
            close_sent: false,
            close_received: false,
            counted_by_peer: 0,
            counted: 0,
            acknowledged: 0,
            tell: false,
            pong: None,
            ping_due: false,
            nonce: 0,
            ping_sent: None,
            round_trip: None,
            heard: now,
            busy_since: now,
            in_flight: 0,
            asked: None,
        }
    }

    pub(crate) fn ready(&self) -> bool {
        self.state == State::Ready
    }

    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.asked = None;
    }

    /// A frame that the peer's LANE_ACK will count goes out.
    pub(crate) fn sent(&mut self, frame: &Frame) {
        if frame.counted() {
            self.uncounted.push_back(frame.clone());
        }
    }

    /// Whether it takes counted frames.
    pub(crate) fn takes_control(&self) -> bool {
        self.uncounted.len() < MAX_UNCOUNTED
    }

    pub(crate) fn carries(&mut self, now: Instant, bytes: usize) {
        if self.in_flight == 0 {
            self.busy_since = now;
        }
        self.in_flight += bytes as u64;
    }

    /// Whether a first counted frame now waits to be acknowledged.
    pub(crate) fn count(&mut self) -> bool {
        self.counted += 1;
        self.tell |= self.counted - self.acknowledged >= TELL_AFTER;
        self.counted == self.acknowledged + 1
    }

    /// The delay is over: tell the peer what has been counted.
    pub(crate) fn tell_now(&mut self) {
        self.tell |= self.counted > self.acknowledged;
    }

    pub(crate) fn lane_ack(&mut self, count: u64) -> Result<(), Violation> {
        let new = count.saturating_sub(self.counted_by_peer);
        let new = usize::try_from(new).unwrap_or(usize::MAX);
        if new > self.uncounted.len() {
            return Err(Violation::AckOfUnsent);
        }
        self.uncounted.drain(..new);
        self.counted_by_peer += new as u64;
        Ok(())
    }

    pub(crate) fn ping(&mut self, nonce: u64) {
        self.pong = Some(nonce);
    }

    pub(crate) fn ponged(&mut self, now: Instant, nonce: u64) {
        if nonce == self.nonce
            && let Some(sent) = self.ping_sent.take()
        {
            self.round_trip = Some(now.saturating_duration_since(sent));
        }
    }

    /// Whether [`own_frame`](Self::own_frame) or the pinned frames have something.
    pub(crate) fn has_own_output(&self) -> bool {
        let pinned = self.pinned.front();
        pinned.is_some_and(|frame| !frame.counted() || self.takes_control())
            || self.pong.is_some()
            || self.ping_due
            || self.tell
            || (self.state == State::Draining && !self.close_sent)
    }

    /// The next frame about the lane itself.
    pub(crate) fn own_frame(&mut self, now: Instant) -> Option<Frame> {
        if let Some(nonce) = self.pong.take() {
            return Some(Frame::Pong { nonce });
        }
        if self.ping_due {
            self.ping_due = false;
            self.nonce += 1;
            self.ping_sent = Some(now);
            return Some(Frame::Ping { nonce: self.nonce });
        }
        if self.tell {
            self.tell = false;
            self.acknowledged = self.counted;
            return Some(Frame::LaneAck {
                count: self.counted,
            });
        }
        if self.state == State::Draining && !self.close_sent {
            self.close_sent = true;
            return Some(Frame::LaneClose);
        }
        None
    }

    /// Both ends have closed it and know that the other has everything.
    pub(crate) fn drained(&self) -> bool {
        self.close_sent
            && self.close_received
            && self.uncounted.is_empty()
            && self.pinned.is_empty()
            && self.counted == self.acknowledged
    }

    /// When [`check_life`](Self::check_life) has something to do.
    pub(crate) fn life_deadline(&self, config: &Config) -> Instant {
        match (self.state, self.asked) {
            (State::Greeting { since }, _) => since + config.dead_after,
            (_, Some(asked)) => asked + config.dead_after,
            _ if self.in_flight > 0 => {
                (self.heard.max(self.busy_since) + config.probe).min(self.heard + config.keep_alive)
            }
            _ => self.heard + config.keep_alive,
        }
    }

    /// Asks for a life sign when it is time. `false` when the lane is dead.
    pub(crate) fn check_life(&mut self, now: Instant, config: &Config) -> bool {
        if now < self.life_deadline(config) {
            return true;
        }
        if self.asked.is_some() || matches!(self.state, State::Greeting { .. }) {
            return false;
        }
        self.asked = Some(now);
        self.ping_due = true;
        true
    }
}
