//! Two ends of a trunk and the lanes between them, in a time of their own: every lane delays,
//! stalls and dies as the seed says, and no byte of one lane overtakes another.

#![allow(dead_code, reason = "each test program uses a part")]

pub mod direct;
pub mod flows;
pub mod link;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use link::{Dice, SimulatedLink};
use renkei_trunk::{Config, Event, Greeting, LaneId, Trunk, TrunkId, TrunkLimits};

pub const PEER_OF_DIALER: &str = "spiffe://b/callee";
pub const PEER_OF_ACCEPTOR: &str = "spiffe://a/caller";
pub const DIALER: usize = 0;
pub const ACCEPTOR: usize = 1;

pub struct World {
    start: Instant,
    pub at: Duration,
    pub ends: [Option<Trunk>; 2],
    pub links: Vec<SimulatedLink>,
    pub dice: Dice,
    pub config: Config,
    pub events: [VecDeque<Event>; 2],
    pub budget: usize,
    /// The largest chunk a read gives.
    pub read: usize,
    pub bytes_carried: u64,
    pub incarnation: u64,
}

/// Small enough that windows, grace and life signs all matter within seconds.
pub fn small_config() -> Config {
    Config {
        limits: TrunkLimits {
            max_streams: 64,
            stream_window: 32 * 1024,
            trunk_window: 256 * 1024,
        },
        stream_window_max: 128 * 1024,
        unread: 256 * 1024,
        send_buffer: 256 * 1024,
        ahead: 256 * 1024,
        max_lanes: 8,
        keep_alive: Duration::from_secs(2),
        probe: Duration::from_millis(500),
        dead_after: Duration::from_secs(1),
        grace: Duration::from_secs(10),
        ack_delay: Duration::from_millis(5),
    }
}

impl World {
    pub fn new(seed: u64, config: Config) -> Self {
        let start = Instant::now();
        let dialer = Trunk::dial(start, config, TrunkId([7; 16]), PEER_OF_DIALER);
        Self {
            start,
            at: Duration::ZERO,
            ends: [Some(dialer), None],
            links: Vec::new(),
            dice: Dice::new(seed),
            config,
            events: Default::default(),
            budget: 16 * 1024,
            read: 16 * 1024,
            bytes_carried: 0,
            incarnation: 99,
        }
    }

    /// A world with one lane that has greeted.
    pub fn connected(seed: u64, config: Config) -> Self {
        let mut world = Self::new(seed, config);
        world.add_lane().expect("first lane");
        world.run_for(Duration::from_millis(50));
        assert_eq!(world.dialer().ready_lanes(), 1);
        world
    }

    pub fn now(&self) -> Instant {
        self.start + self.at
    }

    pub fn dialer(&mut self) -> &mut Trunk {
        self.ends[DIALER].as_mut().expect("dialer")
    }

    pub fn acceptor(&mut self) -> &mut Trunk {
        self.ends[ACCEPTOR].as_mut().expect("acceptor")
    }

    pub fn end(&mut self, side: usize) -> &mut Trunk {
        self.ends[side].as_mut().expect("this end")
    }

    pub fn add_lane(&mut self) -> Option<LaneId> {
        let now = self.now();
        let lane = self.dialer().add_lane(now, PEER_OF_DIALER).ok()?;
        let delay = Duration::from_millis(1 + self.dice.below(20));
        self.links.push(SimulatedLink {
            lane,
            pipes: Default::default(),
            greeting: Some(Greeting::new()),
            delay,
            capacity: 64 * 1024,
            stalled_until: Duration::ZERO,
            up: [true, false],
            cut: false,
        });
        Some(lane)
    }

    /// Cuts a lane wherever its bytes are; the ends notice at once, or later by themselves.
    pub fn cut(&mut self, index: usize, noticed: [bool; 2]) {
        let now = self.now();
        let part = self.dice.below(100);
        for side in 0..2 {
            // What was already on its way may still arrive, up to any byte.
            let pipe = std::mem::take(&mut self.links[index].pipes[side]);
            let total = (pipe.queued as u64 * part / 100) as usize;
            let whole: Vec<u8> = pipe
                .queue
                .iter()
                .flat_map(|(_, b)| b.iter().copied())
                .collect();
            self.arrive(index, 1 - side, Bytes::from(whole).slice(..total));
        }
        self.links[index].cut = true;
        for (side, noticed) in noticed.into_iter().enumerate() {
            if noticed && self.links[index].up[side] {
                self.links[index].up[side] = false;
                let lane = self.links[index].lane;
                self.end(side).lane_down(now, lane);
            }
        }
    }

    /// Advances millisecond by millisecond.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.at + time;
        while self.at < end {
            self.step();
        }
    }

    pub fn step(&mut self) {
        self.at += Duration::from_millis(1);
        let now = self.now();
        for index in 0..self.links.len() {
            self.deliver(index);
        }
        for side in 0..2 {
            let Some(trunk) = &mut self.ends[side] else {
                continue;
            };
            if trunk.next_timeout().is_some_and(|at| at <= now) {
                trunk.handle_timeout(now);
                assert!(
                    trunk.next_timeout().is_none_or(|at| at > now),
                    "a timeout that stays"
                );
            }
        }
        let first = self.dice.below(self.links.len() as u64) as usize;
        for i in 0..self.links.len() {
            let index = (first + i) % self.links.len();
            self.pull(index, DIALER);
            self.pull(index, ACCEPTOR);
        }
        self.collect();
        self.links
            .retain(|link| link.up[0] || link.up[1] || link.greeting.is_some());
    }

    fn deliver(&mut self, index: usize) {
        if self.links[index].stalled_until > self.at {
            return;
        }
        for side in 0..2 {
            while let Some((due, _)) = self.links[index].pipes[side].queue.front()
                && *due <= self.at
            {
                let pipe = &mut self.links[index].pipes[side];
                let (_, bytes) = pipe.queue.pop_front().expect("front");
                pipe.queued -= bytes.len();
                self.arrive(index, 1 - side, bytes);
            }
        }
    }

    fn arrive(&mut self, index: usize, side: usize, mut bytes: Bytes) {
        let now = self.now();
        let lane = self.links[index].lane;
        if side == ACCEPTOR && self.links[index].greeting.is_some() {
            let greeting = self.links[index].greeting.as_mut().expect("greeting");
            let Some(hello) = greeting.receive(&mut bytes).expect("a good HELLO") else {
                return;
            };
            self.links[index].greeting = None;
            let (config, incarnation) = (self.config, self.incarnation);
            if self.ends[ACCEPTOR].is_none() {
                let made = Trunk::accept_trunk(now, config, &hello, PEER_OF_ACCEPTOR, incarnation);
                match made {
                    Ok(trunk) => self.ends[ACCEPTOR] = Some(trunk),
                    Err(refusal) => return self.refuse(index, refusal.frame().header()),
                }
            }
            match self.acceptor().accept_lane(now, &hello, PEER_OF_ACCEPTOR) {
                Ok(id) => assert_eq!(id, lane),
                Err(refusal) => return self.refuse(index, refusal.frame().header()),
            }
            self.links[index].up[ACCEPTOR] = true;
        }
        if !self.links[index].up[side] {
            return;
        }
        while !bytes.is_empty() {
            let n = (1 + self.dice.below(self.read as u64) as usize).min(bytes.len());
            let part = Bytes::copy_from_slice(&bytes.split_to(n));
            self.end(side)
                .receive(now, lane, part)
                .expect("no violation between honest ends");
        }
    }

    fn refuse(&mut self, index: usize, frame: &[u8]) {
        let bytes = Bytes::copy_from_slice(frame);
        self.send(index, ACCEPTOR, bytes);
    }

    fn send(&mut self, index: usize, side: usize, bytes: Bytes) {
        let jitter = Duration::from_millis(self.dice.below(3));
        let link = &mut self.links[index];
        let pipe = &mut link.pipes[side];
        let earliest = pipe.queue.back().map_or(Duration::ZERO, |(due, _)| *due);
        self.bytes_carried += bytes.len() as u64;
        pipe.queued += bytes.len();
        pipe.queue
            .push_back(((self.at + link.delay + jitter).max(earliest), bytes));
    }

    fn pull(&mut self, index: usize, side: usize) {
        let now = self.now();
        let (lane, budget) = (self.links[index].lane, self.budget);
        while self.links[index].up[side]
            && self.links[index].pipes[side].queued < self.links[index].capacity
        {
            let Some(frame) = self.end(side).poll_transmit(now, lane, budget) else {
                assert!(!self.end(side).has_output(lane), "output that never comes");
                break;
            };
            let mut bytes = BytesMut::from(frame.header());
            bytes.extend_from_slice(frame.payload());
            if !self.links[index].cut {
                self.send(index, side, bytes.freeze());
            }
        }
    }

    fn collect(&mut self) {
        for side in 0..2 {
            while let Some(event) = self.ends[side].as_mut().and_then(Trunk::poll_event) {
                if let Event::LaneClosed(lane)
                | Event::LaneDead(lane)
                | Event::LaneRefused(lane, _) = &event
                {
                    let link = self.links.iter_mut().find(|link| link.lane == *lane);
                    if let Some(link) = link {
                        link.up[side] = false;
                    }
                }
                self.events[side].push_back(event);
            }
        }
    }

    /// Lanes that still work at both ends, by link index.
    pub fn live_links(&self) -> Vec<usize> {
        let live = |link: &SimulatedLink| !link.cut && link.up[DIALER];
        (0..self.links.len())
            .filter(|i| live(&self.links[*i]))
            .collect()
    }
}

/// The byte at an offset of a stream's direction.
pub fn pattern(stream: u64, side: usize, offset: u64) -> u8 {
    (offset.wrapping_mul(31) ^ (offset >> 8) ^ stream.wrapping_mul(17) ^ side as u64) as u8
}
