//! Chance, and the connection under a lane.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use renkei_trunk::{Greeting, LaneId};

/// Xorshift: the same seed, the same run.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n.max(1)
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// One direction of a lane.
#[derive(Debug, Default)]
pub struct Pipe {
    pub queue: VecDeque<(Duration, Bytes)>,
    pub queued: usize,
}

/// A lane's connection. `up` says which ends still believe in it.
#[derive(Debug)]
pub struct SimulatedLink {
    pub lane: LaneId,
    pub pipes: [Pipe; 2],
    pub greeting: Option<Greeting>,
    pub delay: Duration,
    pub capacity: usize,
    pub stalled_until: Duration,
    pub up: [bool; 2],
    pub cut: bool,
}
