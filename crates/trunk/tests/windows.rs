//! Back-pressure: windows of streams and of the trunk, and the number of streams.

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
use renkei_trunk::{Code, Config, Event, OpenError, Read, TrunkLimits};
use simulation::direct::Pair;
use simulation::{ACCEPTOR, DIALER, World, small_config};

#[test]
fn a_reader_that_stands_still_holds_its_writer_and_nobody_else() {
    let mut pair = Pair::new(small_config());
    let slow = pair.open(DIALER);
    let quick = pair.open(DIALER);
    let mut written = 0;
    for _ in 0..100 {
        written += pair.write(DIALER, slow, &[1; 10_000]);
        pair.shuttle();
    }
    let window = small_config().limits.stream_window;
    assert_eq!(pair.ends[ACCEPTOR].bytes_held(), window);
    assert!(written as u64 <= window + 256 * 1024 + 10_000);
    let before = pair.events(DIALER);
    assert!(!before.contains(&Event::Writable(slow)));
    pair.write(DIALER, quick, b"quick");
    pair.shuttle();
    assert_eq!(pair.read(ACCEPTOR, quick).0, b"quick");
    // It goes on as soon as it is read.
    let mut read = 0;
    while read < written {
        read += pair.read(ACCEPTOR, slow).0.len();
        pair.shuttle();
    }
    assert!(pair.events(DIALER).contains(&Event::Writable(slow)));
}

#[test]
fn the_window_grows_with_a_quick_reader_up_to_its_cap() {
    let config = small_config();
    let mut pair = Pair::new(config);
    let id = pair.open(DIALER);
    let mut most = 0;
    for _ in 0..400 {
        pair.write(DIALER, id, &[1; 60_000]);
        pair.shuttle();
        most = most.max(pair.ends[ACCEPTOR].bytes_held());
        pair.read(ACCEPTOR, id);
        pair.shuttle();
    }
    assert!(most > 2 * config.limits.stream_window, "only {most}");
    assert!(most <= config.stream_window_max);
}

#[test]
fn no_more_streams_than_granted_and_a_word_when_there_are() {
    let mut pair = Pair::new(small_config());
    let mut ids = Vec::new();
    let error = loop {
        match pair.ends[DIALER].open(Bytes::new()) {
            Ok(id) => ids.push(id),
            Err(error) => break error,
        }
    };
    assert_eq!((ids.len(), error), (64, OpenError::StreamLimit));
    pair.shuttle();
    for id in ids {
        pair.ends[ACCEPTOR]
            .refuse(id, Code::CANCELLED, "")
            .expect("refuse");
    }
    pair.shuttle();
    assert!(pair.events(DIALER).contains(&Event::StreamsAvailable));
    pair.ends[DIALER].open(Bytes::new()).expect("room again");
}

#[test]
fn what_slow_readers_leave_of_the_window_still_goes_round() {
    let mut pair = Pair::new(small_config());
    // Seven streams that nobody reads hold seven eighths of the trunk's window.
    for _ in 0..7 {
        let slow = pair.open(DIALER);
        pair.write(DIALER, slow, &[1; 100_000]);
    }
    let quick = pair.open(DIALER);
    for round in 0..100 {
        pair.write(DIALER, quick, &[2; 10_000]);
        pair.shuttle();
        let mut read = 0;
        while read < 10_000 {
            let part = pair.read(ACCEPTOR, quick).0.len();
            assert!(
                part > 0,
                "round {round}: {read} of 10,000 bytes, then nothing"
            );
            read += part;
            pair.shuttle();
        }
    }
}

#[test]
fn long_lived_streams_leave_the_others_room_to_come_and_go() {
    let mut pair = Pair::new(small_config());
    let _long: Vec<_> = (0..60).map(|_| pair.open(DIALER)).collect();
    for _ in 0..500 {
        let id = pair.open(DIALER);
        for side in [DIALER, ACCEPTOR] {
            pair.ends[side].finish(id).expect("finish");
        }
        pair.shuttle();
        for side in [DIALER, ACCEPTOR] {
            assert!(pair.read(side, id).1);
        }
        // The acknowledgement of an end is not urgent.
        pair.pass(small_config().ack_delay);
    }
    pair.pass(small_config().ack_delay);
    assert_eq!(pair.ends[ACCEPTOR].streams(), 60);
}

#[test]
fn one_stream_fills_sixteen_lanes_over_a_long_path_within_a_second() {
    const MIB: u64 = 1 << 20;
    let mut world = World::connected(
        7,
        Config {
            limits: TrunkLimits {
                max_streams: 8192,
                stream_window: 64 * 1024,
                trunk_window: 1024 * MIB,
            },
            stream_window_max: 64 * MIB,
            unread: 256 * MIB,
            send_buffer: 128 << 20,
            ahead: 8 * MIB,
            ..Config::default()
        },
    );
    for _ in 1..16 {
        world.add_lane().expect("lane");
    }
    // 16 ms each way, and 10 Gbit/s: 20 MB on their way.
    let each = 20_000_000 / 16;
    for link in &mut world.links {
        link.delay = Duration::from_millis(16);
        link.capacity = each;
    }
    world.budget = 64 * 1024;
    world.read = 1 << 20;
    world.run_for(Duration::from_millis(100));
    let id = world.dialer().open(Bytes::new()).expect("stream");
    let block = Bytes::from(vec![0; 1 << 20]);
    let (mut total, mut last) = (0, 0);
    for step in 0..700 {
        while world.dialer().write(id, &mut block.clone()).expect("write") == block.len() {}
        world.step();
        let before = total;
        while let Ok(Read::Data(data)) = world.acceptor().read(id, 1 << 20) {
            total += data.len();
        }
        if step >= 600 {
            last += total - before;
        }
    }
    // In 100 ms: nine tenths of what the path carries.
    assert!(last > 112_000_000, "{last} of 125,000,000 bytes");
}
