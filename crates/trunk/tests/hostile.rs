//! A peer that means harm, or speaks another language: bounded memory, a typed refusal, no panic.

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

use std::time::Instant;

use bytes::Bytes;
use renkei_trunk::{
    CloseReason, Code, Config, Event, Greeting, LaneRefusal, Trunk, TrunkId, TrunkLimits, Violation,
};
use simulation::direct::{Pair, n8, one, raw};
use simulation::{ACCEPTOR, DIALER, PEER_OF_DIALER, small_config};

fn data(stream: u64, offset: u64, len: usize, fin: bool) -> Vec<u8> {
    raw(
        0x10 + u8::from(fin),
        &[&n8(stream), &n8(offset), &vec![0; len]],
    )
}

/// What the acceptor, whose peer has stream 0 open and has sent nothing, says to these frames.
fn verdict(frames: &[Vec<u8>]) -> Violation {
    let mut pair = Pair::new(small_config());
    let id = pair.open(DIALER);
    assert_eq!(id.number(), 0);
    let (lane, now) = (pair.lanes[0], pair.now);
    let (last, before) = frames.split_last().expect("frames");
    let acceptor = &mut pair.ends[ACCEPTOR];
    for frame in before {
        acceptor
            .receive(now, lane, Bytes::from(frame.clone()))
            .expect("allowed so far");
    }
    let violation = acceptor
        .receive(now, lane, Bytes::from(last.clone()))
        .expect_err("harm");
    assert_eq!(
        acceptor.closed(),
        Some(&CloseReason::Violation(violation.clone()))
    );
    assert_eq!((acceptor.streams(), acceptor.bytes_held()), (0, 0));
    // The peer is told, and then no more is said.
    let told = one(acceptor, now, lane).expect("CLOSE");
    assert_eq!(told[0], 0x27);
    assert!(one(acceptor, now, lane).is_none() && !acceptor.has_output(lane));
    violation
}

#[test]
fn every_breach_has_its_name() {
    let cases: Vec<(Vec<Vec<u8>>, Violation)> = vec![
        (vec![raw(0x77, &[])], Violation::UnknownFrame(0x77)),
        (vec![vec![0x10, 0xff, 0xff, 0xff]], length(0x10, 0xff_ffff)),
        (vec![vec![0x12, 0, 4, 9]], length(0x12, 0x409)),
        (vec![raw(0x22, &[&[1]])], length(0x22, 1)),
        (vec![raw(0x01, &[&[1; 53]])], Violation::Greeting),
        (vec![raw(0x02, &[&[1, 1]])], Violation::Greeting),
        (vec![data(1, 0, 1, false)], Violation::UnknownStream(1)),
        (vec![raw(0x12, &[&n8(1)])], Violation::WrongSide(1)),
        // The dialer adds lanes; it has nobody to ask.
        (vec![raw(0x28, &[&n8(0)])], Violation::UnknownFrame(0x28)),
        (vec![raw(0x13, &[&n8(0)])], Violation::WrongSide(0)),
        (vec![raw(0x12, &[&n8(2 * 64)])], Violation::StreamLimit(128)),
        (
            vec![data(0, 32 * 1024, 1, false)],
            Violation::StreamWindow(0),
        ),
        (vec![data(0, u64::MAX - 5, 8, false)], length(0x10, 24)),
        (
            vec![data(0, 0, 5, true), data(0, 5, 1, false)],
            Violation::FinalSize(0),
        ),
        (
            vec![data(0, 0, 5, true), data(0, 0, 4, true)],
            Violation::FinalSize(0),
        ),
        (
            vec![data(0, 9, 5, false), data(0, 0, 4, true)],
            Violation::FinalSize(0),
        ),
        (
            vec![data(0, 9, 5, false), raw(0x16, &[&n8(0), &[0; 4], &n8(3)])],
            Violation::FinalSize(0),
        ),
        (
            vec![raw(0x16, &[&n8(0), &[0; 4], &n8(1 << 40)])],
            Violation::StreamWindow(0),
        ),
        (
            vec![raw(0x15, &[&n8(0), &n8(1), &n8(0)])],
            Violation::AckOfUnsent,
        ),
        (
            vec![raw(0x15, &[&n8(2), &n8(0), &n8(0)])],
            Violation::AckOfUnsent,
        ),
        (vec![raw(0x21, &[&n8(1000)])], Violation::AckOfUnsent),
        (
            vec![raw(0x24, &[]), raw(0x26, &[])],
            Violation::AfterLaneClose,
        ),
    ];
    for (frames, expected) in cases {
        assert_eq!(verdict(&frames), expected, "{frames:?}");
    }
}

fn length(kind: u8, length: usize) -> Violation {
    Violation::FrameLength { kind, length }
}

#[test]
fn all_streams_together_stay_within_the_window_of_the_trunk() {
    let full: Vec<_> = (0..8).map(|i| data(i * 2, 0, 32 * 1024, false)).collect();
    let mut frames = full;
    frames.push(data(16, 0, 1, false));
    assert_eq!(verdict(&frames), Violation::TrunkWindow);
}

#[test]
fn bytes_in_too_many_pieces_are_refused_before_they_cost_memory() {
    let mut config = small_config();
    config.limits = TrunkLimits {
        max_streams: 64,
        stream_window: 1 << 20,
        trunk_window: 16 << 20,
    };
    let mut pair = Pair::new(config);
    let (lane, now) = (pair.lanes[0], pair.now);
    let mut sent = 0u64;
    let violation = loop {
        // Every other byte, so that nothing joins.
        let frame = data(0, 1 + sent * 2, 1, false);
        if let Err(violation) = pair.ends[ACCEPTOR].receive(now, lane, Bytes::from(frame)) {
            break violation;
        }
        sent += 1;
    };
    assert_eq!((violation, sent), (Violation::Fragments, 131_072));
}

#[test]
fn duplicated_and_overlapping_bytes_do_no_harm() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    let (lane, now) = (pair.lanes[0], pair.now);
    let piece = |at: u64, bytes: &[u8]| raw(0x10, &[&n8(0), &n8(at), bytes]);
    for frame in [
        piece(3, b"def"),
        piece(0, b"abcXX"),
        piece(0, b"abc"),
        piece(4, b"YYg"),
    ] {
        pair.ends[ACCEPTOR]
            .receive(now, lane, Bytes::from(frame))
            .expect("no harm");
    }
    assert_eq!(pair.read(ACCEPTOR, id), (b"abcdefg".to_vec(), false));
}

#[test]
fn late_frames_of_a_stream_that_is_over_are_ignored() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    for side in [DIALER, ACCEPTOR] {
        pair.ends[side].finish(id).unwrap();
    }
    pair.shuttle();
    for side in [DIALER, ACCEPTOR] {
        assert!(pair.read(side, id).1);
    }
    pair.pass(Config::default().ack_delay);
    let (lane, now) = (pair.lanes[0], pair.now);
    for frame in [
        data(0, 0, 100, false),
        raw(0x12, &[&n8(0), b"again"]),
        raw(0x16, &[&n8(0), &[0; 4], &n8(0)]),
        raw(0x15, &[&n8(0), &n8(1 << 50), &n8(0)]),
    ] {
        pair.ends[ACCEPTOR]
            .receive(now, lane, Bytes::from(frame))
            .expect("ignored");
    }
    assert_eq!(pair.ends[ACCEPTOR].streams(), 0);
    assert!(
        pair.events(ACCEPTOR)
            .iter()
            .all(|event| matches!(event, Event::Readable(_) | Event::Delivered(_)))
    );
}

#[test]
fn frames_that_overtake_their_open_wait_for_it() {
    let mut pair = Pair::new(Config::default());
    let (lane, now) = (pair.lanes[0], pair.now);
    let give = |pair: &mut Pair, frame: Vec<u8>| {
        pair.ends[ACCEPTOR]
            .receive(now, lane, Bytes::from(frame))
            .expect("allowed");
    };
    give(&mut pair, data(2, 0, 3, true));
    give(&mut pair, raw(0x17, &[&n8(2), &[0, 0, 0, 8]]));
    assert!(pair.events(ACCEPTOR).is_empty());
    give(&mut pair, raw(0x12, &[&n8(2), b"t"]));
    let events = pair.events(ACCEPTOR);
    let Event::Opened { stream, .. } = events[0] else {
        panic!("{events:?}")
    };
    assert_eq!(
        events[1..],
        [Event::Stopped(stream, Code(8)), Event::Readable(stream)]
    );
    assert_eq!(pair.read(ACCEPTOR, stream), (vec![0; 3], true));
    assert_eq!(pair.ends[ACCEPTOR].streams(), 0);
}

#[test]
fn a_peer_of_another_version_is_refused_and_learns_why() {
    let mut hello = Bytes::from(raw(0x01, &[&[2], b"whatever version 2 says"]));
    let refusal = Greeting::new()
        .receive(&mut hello)
        .expect_err("another version");
    assert_eq!(refusal, LaneRefusal::Version { ours: 1, theirs: 2 });
    let frame = refusal.frame();
    assert_eq!(frame.header(), raw(0x02, &[&[1, 1]]));
    // A version 2 acceptor refuses us: the trunk ends, so that the caller can do without.
    let now = Instant::now();
    let mut dialer = Trunk::dial(now, Config::default(), TrunkId([0; 16]), PEER_OF_DIALER);
    let lane = dialer.add_lane(now, PEER_OF_DIALER).unwrap();
    let answer = Bytes::from(raw(0x02, &[&[2, 1], b"and more"]));
    dialer
        .receive(now, lane, answer)
        .expect("a refusal is no violation");
    let refusal = LaneRefusal::Version { ours: 1, theirs: 2 };
    assert_eq!(dialer.closed(), Some(&CloseReason::Refused(refusal)));
}

#[test]
fn anything_but_a_greeting_is_refused_at_its_first_bytes() {
    for bytes in [
        "GET / HTTP/1.1\r\n\r\n",
        "\x16\x03\x01\x02\x00",
        "\x01\x00\x00\x00",
    ] {
        let refusal = Greeting::new().receive(&mut Bytes::from_static(bytes.as_bytes()));
        assert_eq!(refusal, Err(LaneRefusal::Malformed));
    }
    let mut slow = Greeting::new();
    assert_eq!(slow.receive(&mut Bytes::from_static(b"\x01\x00")), Ok(None));
}

#[test]
fn a_flood_of_pings_is_answered_once() {
    let mut pair = Pair::new(Config::default());
    let (lane, now) = (pair.lanes[0], pair.now);
    for i in 0..10_000 {
        let ping = Bytes::from(raw(0x22, &[&n8(i)]));
        pair.ends[ACCEPTOR].receive(now, lane, ping).unwrap();
    }
    assert_eq!(
        one(&mut pair.ends[ACCEPTOR], now, lane).unwrap(),
        raw(0x23, &[&n8(9999)])
    );
    assert!(one(&mut pair.ends[ACCEPTOR], now, lane).is_none());
}

/// Each costs memory before its OPEN, which may never come.
#[test]
fn streams_that_are_never_opened_are_in_the_account_of_memory() {
    let mut pair = Pair::new(small_config());
    let (lane, now) = (pair.lanes[0], pair.now);
    let acceptor = &mut pair.ends[ACCEPTOR];
    let before = acceptor.memory();
    for stream in 0..64 {
        let frame = data(2 * stream, 0, 1, false);
        acceptor.receive(now, lane, Bytes::from(frame)).unwrap();
    }
    assert_eq!(acceptor.bytes_held(), 64);
    let each = (acceptor.memory() - before) / 64;
    assert!(each > 500, "{each} bytes for a stream");
    acceptor.close(Code::BUSY, "enough");
    assert_eq!(acceptor.memory(), 0);
}
