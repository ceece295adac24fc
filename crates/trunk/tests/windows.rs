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

use bytes::Bytes;
use renkei_trunk::{Code, Event, OpenError};
use simulation::direct::Pair;
use simulation::{ACCEPTOR, DIALER, small_config};

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
