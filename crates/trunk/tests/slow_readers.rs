//! Readers that are slow, or stand still, and those beside them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![allow(
    unreachable_pub,
    missing_docs,
    reason = "shared with the other test programs"
)]

mod simulation;

use std::time::Duration;

use bytes::Bytes;
use renkei_trunk::{Config, Read, StreamId, TrunkLimits};
use simulation::direct::Pair;
use simulation::{ACCEPTOR, DIALER};

const MIB: u64 = 1 << 20;
const LEAST: u64 = 64 * 1024;

/// A quarter of what a proxy's trunk may have.
fn config() -> Config {
    Config {
        limits: TrunkLimits {
            max_streams: 2048,
            stream_window: LEAST,
            trunk_window: 1024 * MIB,
        },
        stream_window_max: 16 * MIB,
        unread: 64 * MIB,
        send_buffer: 32 << 20,
        ..Config::default()
    }
}

/// A transfer whose reader takes some bytes at once, as the buffers of its socket do, and from
/// then on only so many each time.
struct Transfer {
    id: StreamId,
    from: usize,
    quick: u64,
    each: u64,
    read: u64,
}

impl Transfer {
    fn open(pair: &mut Pair, from: usize, quick: u64, each: u64) -> Self {
        Self {
            id: pair.open(DIALER),
            from,
            quick,
            each,
            read: 0,
        }
    }

    /// Writes what there is room for, and reads what the reader takes.
    fn step(&mut self, pair: &mut Pair) {
        let block = [7; 64 * 1024];
        while pair.write(self.from, self.id, &block) > 0 {
            pair.shuttle();
        }
        let mut most = self.quick.saturating_sub(self.read).max(self.each);
        while most > 0 {
            let part = usize::try_from(most.min(128 * 1024)).unwrap();
            match pair.ends[1 - self.from].read(self.id, part).expect("read") {
                Read::Data(data) => {
                    self.read += data.len() as u64;
                    most -= data.len() as u64;
                }
                _ => break,
            }
        }
        pair.shuttle();
    }
}

fn run(pair: &mut Pair, transfers: &mut [Transfer], rounds: usize) {
    for _ in 0..rounds {
        for transfer in &mut *transfers {
            transfer.step(pair);
        }
        pair.pass(Duration::from_millis(1));
    }
}

/// A small request and its answer, as fast as both ends can.
fn get(pair: &mut Pair, answer: usize) {
    let id = pair.open(DIALER);
    assert_eq!(pair.write(DIALER, id, &[1; 200]), 200);
    pair.ends[DIALER].finish(id).unwrap();
    pair.shuttle();
    assert_eq!(pair.read(ACCEPTOR, id).0.len(), 200);
    let (mut left, mut got) = (Bytes::from(vec![2; answer]), 0);
    while got < answer {
        pair.ends[ACCEPTOR].write(id, &mut left).unwrap();
        pair.shuttle();
        let part = pair.read(DIALER, id).0.len();
        assert!(part > 0, "{got} of {answer} bytes came, then nothing");
        got += part;
        pair.shuttle();
    }
    pair.ends[ACCEPTOR].finish(id).unwrap();
    pair.shuttle();
    assert!(pair.read(DIALER, id).1);
    pair.pass(config().ack_delay);
}

/// The bytes that wait for readers at both ends are within what windows grow into, and what is
/// every stream's.
fn assert_bounded(pair: &Pair) {
    for end in &pair.ends {
        let bound = config().unread + end.streams() as u64 * LEAST;
        assert!(end.bytes_held() <= bound, "{} held", end.bytes_held());
        assert!(end.bytes_kept() <= end.most_kept());
    }
}

#[test]
fn stopped_downloads_leave_a_small_get_its_way() {
    for count in [1, 4, 31, 100, 1000] {
        let mut pair = Pair::new(config());
        let mut downloads: Vec<_> = (0..count)
            .map(|_| Transfer::open(&mut pair, ACCEPTOR, 4 * MIB, 0))
            .collect();
        run(&mut pair, &mut downloads, 12);
        get(&mut pair, 20_000);
        get(&mut pair, 3_000_000);
        assert_bounded(&pair);
    }
}

#[test]
fn readers_that_are_quick_for_long_and_then_stop_leave_a_get_its_way() {
    let mut pair = Pair::new(config());
    for _ in 0..40 {
        let mut download = [Transfer::open(&mut pair, ACCEPTOR, 100 * MIB, 0)];
        run(&mut pair, &mut download, 60);
        get(&mut pair, 1_000_000);
    }
    assert_bounded(&pair);
}

#[test]
fn slow_readers_leave_a_get_its_way_and_give_back_what_they_do_not_read() {
    let mut pair = Pair::new(config());
    let mut downloads: Vec<_> = (0..40)
        .map(|_| Transfer::open(&mut pair, ACCEPTOR, 4 * MIB, 5000))
        .collect();
    run(&mut pair, &mut downloads, 20);
    let most = pair.ends[DIALER].bytes_held();
    get(&mut pair, 20_000);
    run(&mut pair, &mut downloads, 1500);
    let later = pair.ends[DIALER].bytes_held();
    assert!(later < most / 2, "{later} bytes wait, {most} did before");
    assert!(downloads.iter().all(|download| download.read > 5 * MIB));
    get(&mut pair, 20_000);
}

#[test]
fn uploads_to_a_slow_backend_leave_a_get_its_way() {
    let mut pair = Pair::new(config());
    let mut uploads: Vec<_> = (0..33)
        .map(|_| Transfer::open(&mut pair, DIALER, 4 * MIB, 100))
        .collect();
    run(&mut pair, &mut uploads, 100);
    get(&mut pair, 20_000);
    assert_bounded(&pair);
}

#[test]
fn both_directions_full_of_stopped_streams_leave_a_get_its_way() {
    let mut pair = Pair::new(config());
    let mut all: Vec<_> = (0..600)
        .map(|n| Transfer::open(&mut pair, n % 2, 2 * MIB, 0))
        .collect();
    run(&mut pair, &mut all, 8);
    get(&mut pair, 20_000);
    assert_bounded(&pair);
    // Whoever reads again gets on.
    for one in &mut all[..20] {
        let before = one.read;
        one.each = MIB;
        one.step(&mut pair);
        one.step(&mut pair);
        assert!(one.read > before);
    }
}

#[test]
fn idle_streams_with_large_windows_cost_those_that_follow_nothing() {
    let mut pair = Pair::new(config());
    for _ in 0..20 {
        let mut idle = [Transfer::open(&mut pair, ACCEPTOR, 16 * MIB, 0)];
        while idle[0].read < 16 * MIB {
            run(&mut pair, &mut idle, 1);
        }
        // All was read, and nothing more comes.
        while !matches!(
            pair.ends[DIALER].read(idle[0].id, 1 << 20),
            Ok(Read::Pending)
        ) {
            pair.shuttle();
        }
    }
    let mut bulk = [Transfer::open(&mut pair, ACCEPTOR, u64::MAX, 0)];
    run(&mut pair, &mut bulk, 10);
    assert!(
        bulk[0].read > 10 * MIB,
        "{} bytes in ten rounds",
        bulk[0].read
    );
}

#[test]
fn a_process_with_nothing_left_gives_every_stream_its_least_and_no_more() {
    let mut pair = Pair::new(config());
    for end in &mut pair.ends {
        end.set_room(0);
    }
    let mut all: Vec<_> = (0..50)
        .map(|_| Transfer::open(&mut pair, ACCEPTOR, 4 * MIB, 0))
        .collect();
    run(&mut pair, &mut all, 100);
    assert!(pair.ends[DIALER].bytes_held() <= 50 * LEAST);
    get(&mut pair, 200_000);
}
