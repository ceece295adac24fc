//! Two ends whose lanes carry everything at once; time jumps from deadline to deadline.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use renkei_trunk::{Config, Event, Greeting, LaneId, Read, StreamId, Transmit, Trunk, TrunkId};

use super::{ACCEPTOR, DIALER, PEER_OF_ACCEPTOR, PEER_OF_DIALER};

pub struct Pair {
    pub now: Instant,
    pub ends: [Trunk; 2],
    pub lanes: Vec<LaneId>,
    /// Frames carried, by the end that sent them.
    pub carried: [usize; 2],
    pub bytes: [usize; 2],
}

impl Pair {
    pub fn new(config: Config) -> Self {
        Self::with(config, config)
    }

    pub fn with(dialer: Config, acceptor: Config) -> Self {
        let now = Instant::now();
        let mut here = Trunk::dial(now, dialer, TrunkId([1; 16]), PEER_OF_DIALER);
        let lane = here.add_lane(now, PEER_OF_DIALER).expect("lane");
        let mut bytes = one(&mut here, now, lane).expect("HELLO");
        let hello = Greeting::new()
            .receive(&mut bytes)
            .expect("good")
            .expect("whole");
        let mut there =
            Trunk::accept_trunk(now, acceptor, &hello, PEER_OF_ACCEPTOR, 5).expect("a new trunk");
        assert_eq!(there.accept_lane(now, &hello, PEER_OF_ACCEPTOR), Ok(lane));
        let ends = [here, there];
        let mut pair = Self {
            now,
            ends,
            lanes: vec![lane],
            carried: [0; 2],
            bytes: [0; 2],
        };
        pair.shuttle();
        assert_eq!(pair.events(DIALER), [Event::LaneReady(lane)]);
        assert_eq!(pair.events(ACCEPTOR), [Event::LaneReady(lane)]);
        pair
    }

    pub fn add_lane(&mut self) -> LaneId {
        let now = self.now;
        let lane = self.ends[DIALER]
            .add_lane(now, PEER_OF_DIALER)
            .expect("lane");
        let mut bytes = one(&mut self.ends[DIALER], now, lane).expect("HELLO");
        let hello = Greeting::new()
            .receive(&mut bytes)
            .expect("good")
            .expect("whole");
        self.ends[ACCEPTOR]
            .accept_lane(now, &hello, PEER_OF_ACCEPTOR)
            .expect("taken");
        self.lanes.push(lane);
        lane
    }

    /// Carries everything both ends have, until neither has anything.
    pub fn shuttle(&mut self) {
        loop {
            let before = self.carried;
            for lane in self.lanes.clone() {
                self.carry(lane, DIALER);
                self.carry(lane, ACCEPTOR);
            }
            if self.carried == before {
                return;
            }
        }
    }

    pub fn carry(&mut self, lane: LaneId, from: usize) {
        while let Some(bytes) = one(&mut self.ends[from], self.now, lane) {
            self.carried[from] += 1;
            self.bytes[from] += bytes.len();
            self.ends[1 - from]
                .receive(self.now, lane, bytes)
                .expect("no violation");
        }
    }

    /// Lets time pass, with everything carried at once.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.ends.iter().filter_map(Trunk::next_timeout).min()
            && at <= end
        {
            self.now = self.now.max(at);
            for trunk in &mut self.ends {
                trunk.handle_timeout(self.now);
            }
            self.shuttle();
        }
        self.now = end;
    }

    pub fn lose(&mut self, lane: LaneId) {
        for trunk in &mut self.ends {
            trunk.lane_down(self.now, lane);
        }
        self.lanes.retain(|id| *id != lane);
    }

    pub fn events(&mut self, side: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.ends[side].poll_event()).collect()
    }

    /// Opens a stream and has it accepted.
    pub fn open(&mut self, side: usize) -> StreamId {
        let id = self.ends[side].open(Bytes::new()).expect("stream");
        self.shuttle();
        self.ends[1 - side].accept(id).expect("accept");
        self.shuttle();
        self.events(DIALER);
        self.events(ACCEPTOR);
        id
    }

    pub fn write(&mut self, side: usize, id: StreamId, data: &[u8]) -> usize {
        self.ends[side]
            .write(id, &mut Bytes::copy_from_slice(data))
            .expect("write")
    }

    /// Reads all there is, and whether the end came.
    pub fn read(&mut self, side: usize, id: StreamId) -> (Vec<u8>, bool) {
        let mut out = Vec::new();
        loop {
            match self.ends[side].read(id, usize::MAX).expect("read") {
                Read::Data(data) => out.extend_from_slice(&data),
                Read::Finished => return (out, true),
                Read::Pending => return (out, false),
            }
        }
    }
}

/// The next frame of a lane as bytes.
pub fn one(trunk: &mut Trunk, now: Instant, lane: LaneId) -> Option<Bytes> {
    trunk.poll_transmit(now, lane, 64 * 1024).map(whole)
}

/// A frame's bytes.
pub fn whole(frame: Transmit) -> Bytes {
    let mut bytes = BytesMut::from(frame.header());
    bytes.extend_from_slice(frame.payload());
    bytes.freeze()
}

/// A frame as it is on the wire.
pub fn raw(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame[0] = kind;
    frame.extend(body);
    frame
}

/// A field of eight bytes.
pub fn n8(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}
