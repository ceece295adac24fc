//! Applications at both ends: each writes a known pattern and checks what it reads.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use renkei_trunk::{Event, Read, ResetCause, StreamId};

use super::{World, pattern};

/// One direction of one stream, seen from one end.
#[derive(Debug, Default)]
pub struct Half {
    pub to_write: u64,
    pub written: u64,
    pub finished: bool,
    pub read: u64,
    pub ended: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Reset,
}

#[derive(Default)]
pub struct Flows {
    /// By end and stream.
    pub halves: [BTreeMap<StreamId, Half>; 2],
    /// How many bytes the far end answers to a new stream, by the stream's number.
    pub answers: BTreeMap<u64, u64>,
    /// The largest single write.
    pub write: u64,
    pub opened: usize,
}

impl Flows {
    pub fn new(write: u64) -> Self {
        Self {
            write,
            ..Self::default()
        }
    }

    /// Opens a stream that carries `there` bytes, and `back` bytes the other way.
    pub fn open(&mut self, world: &mut World, side: usize, there: u64, back: u64) -> StreamId {
        let id = world
            .end(side)
            .open(Bytes::from_static(b"target"))
            .expect("a stream");
        self.halves[side].insert(
            id,
            Half {
                to_write: there,
                ..Half::default()
            },
        );
        self.answers.insert(id.number(), back);
        id
    }

    /// Lets both applications do what they can, then a millisecond pass.
    pub fn step(&mut self, world: &mut World) {
        for side in 0..2 {
            while let Some(event) = world.events[side].pop_front() {
                self.event(world, side, event);
            }
            if world.ends[side].is_some() {
                self.act(world, side);
            }
        }
        world.step();
        self.check_memory(world);
    }

    fn event(&mut self, world: &mut World, side: usize, event: Event) {
        match event {
            Event::Opened { stream, target } => {
                assert_eq!(&target[..], b"target");
                let to_write = self.answers[&stream.number()];
                let fresh = Half {
                    to_write,
                    ..Half::default()
                };
                assert!(
                    self.halves[side].insert(stream, fresh).is_none(),
                    "opened twice"
                );
                let _ = world.end(side).accept(stream);
                self.opened += 1;
            }
            Event::Reset(stream, cause) => {
                assert_eq!(cause, ResetCause::Trunk, "nobody resets here");
                if let Some(half) = self.halves[side].get_mut(&stream) {
                    half.ended.get_or_insert(End::Reset);
                    half.finished = true;
                }
            }
            Event::Refused { .. } | Event::Stopped(..) => panic!("nobody refuses: {event:?}"),
            _ => {}
        }
    }

    fn act(&mut self, world: &mut World, side: usize) {
        for (id, half) in &mut self.halves[side] {
            let end = world.ends[side].as_mut().expect("end");
            while !half.finished && half.written < half.to_write {
                let size = 1 + world.dice.below(self.write);
                let size = size.min(half.to_write - half.written);
                let data: Vec<u8> = (0..size)
                    .map(|i| pattern(id.number(), side, half.written + i))
                    .collect();
                let taken = end.write(*id, &mut Bytes::from(data)).expect("write") as u64;
                half.written += taken;
                if taken < size || world.dice.one_in(4) {
                    break;
                }
            }
            if !half.finished && half.written == half.to_write {
                end.finish(*id).expect("finish");
                half.finished = true;
            }
            // A reader that is slow at times.
            while half.ended.is_none() && !world.dice.one_in(5) {
                match end
                    .read(*id, 1 + world.dice.below(20_000) as usize)
                    .expect("read")
                {
                    Read::Data(data) => {
                        for (i, byte) in data.iter().enumerate() {
                            let offset = half.read + i as u64;
                            assert_eq!(*byte, pattern(id.number(), 1 - side, offset));
                        }
                        half.read += data.len() as u64;
                    }
                    Read::Finished => half.ended = Some(End::Clean),
                    Read::Pending => break,
                }
            }
        }
    }

    fn check_memory(&self, world: &mut World) {
        for side in 0..2 {
            let window = world.config.limits.trunk_window;
            if let Some(end) = &world.ends[side] {
                assert!(
                    end.bytes_held() <= window,
                    "receiver holds {}",
                    end.bytes_held()
                );
                assert!(
                    end.bytes_kept() <= end.most_kept(),
                    "sender keeps {}",
                    end.bytes_kept()
                );
            }
        }
    }

    pub fn all_ended(&self) -> bool {
        let known = self.answers.len();
        let done = |half: &Half| half.ended.is_some() && half.finished;
        self.halves
            .iter()
            .all(|halves| halves.len() == known && halves.values().all(done))
    }

    /// Runs until every direction has ended; panics when that takes longer than `limit`.
    pub fn run(&mut self, world: &mut World, limit: Duration) {
        let end = world.at + limit;
        while !self.all_ended() {
            assert!(world.at < end, "no progress: {:?}", self.halves);
            self.step(world);
        }
    }

    /// Every clean end came behind exactly what was written.
    pub fn check_delivery(&self) {
        for side in 0..2 {
            for (id, half) in &self.halves[side] {
                if half.ended == Some(End::Clean) {
                    let there = self.halves[1 - side].get(id).map(|far| far.to_write);
                    assert_eq!(there, Some(half.read), "stream {id}");
                }
            }
        }
    }

    pub fn all_clean(&self) -> bool {
        let clean = |half: &Half| half.ended == Some(End::Clean);
        self.halves.iter().all(|halves| halves.values().all(clean))
    }
}
