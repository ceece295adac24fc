//! A peer's bytes on one lane of a trunk that has streams of both sides: no panic, bounded memory,
//! and nothing left once the trunk is over.
//!
//! The first byte chooses the end and the size of reads; the rest is what the peer sends. Bytes
//! also go to a fresh [`Greeting`], as the first of a lane.

#![no_main]

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use renkei_trunk::{Config, Event, Greeting, LaneId, Read, Trunk, TrunkId, TrunkLimits};

const WINDOW: u64 = 256 * 1024;

fuzz_target!(|input: &[u8]| {
    let Some((choice, input)) = input.split_first() else {
        return;
    };
    let _ = Greeting::new().receive(&mut Bytes::copy_from_slice(input));
    let now = Instant::now();
    let (mut ends, lane) = pair(now);
    let end = &mut ends[usize::from(choice & 1)];
    for part in input.chunks(1 + usize::from(choice >> 1) * 16) {
        if end
            .receive(now, lane, Bytes::copy_from_slice(part))
            .is_err()
        {
            break;
        }
        assert!(end.bytes_held() <= WINDOW);
        serve(end);
        while end.poll_transmit(now, lane, 16 * 1024).is_some() {}
    }
    end.lane_down(now, lane);
    end.handle_timeout(now + Duration::from_secs(60));
    assert!(end.closed().is_some());
    assert_eq!(
        (end.streams(), end.bytes_held(), end.bytes_kept()),
        (0, 0, 0)
    );
});

/// Two ends with a stream from each, bytes on both, and a lane between them.
fn pair(now: Instant) -> ([Trunk; 2], LaneId) {
    let limits = TrunkLimits {
        max_streams: 64,
        stream_window: 32 * 1024,
        trunk_window: WINDOW,
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let mut dialer = Trunk::dial(now, config, TrunkId([1; 16]), "acceptor");
    let lane = dialer.add_lane(now, "acceptor").expect("lane");
    let mut hello = frames(&mut dialer, now, lane);
    let hello = Greeting::new()
        .receive(&mut hello)
        .expect("HELLO")
        .expect("whole");
    let mut acceptor = Trunk::accept_trunk(now, config, &hello, "dialer", 1).expect("trunk");
    acceptor.accept_lane(now, &hello, "dialer").expect("taken");
    let mut ends = [dialer, acceptor];
    for opener in [1, 0] {
        let answer = frames(&mut ends[opener], now, lane);
        ends[1 - opener].receive(now, lane, answer).expect("honest");
        let id = ends[opener].open(Bytes::new()).expect("stream");
        ends[opener]
            .write(id, &mut Bytes::from_static(b"bytes on the way"))
            .expect("write");
        let opened = frames(&mut ends[opener], now, lane);
        ends[1 - opener].receive(now, lane, opened).expect("honest");
        serve(&mut ends[1 - opener]);
    }
    (ends, lane)
}

fn frames(trunk: &mut Trunk, now: Instant, lane: LaneId) -> Bytes {
    let mut out = BytesMut::new();
    while let Some(frame) = trunk.poll_transmit(now, lane, 16 * 1024) {
        out.extend_from_slice(frame.header());
        out.extend_from_slice(frame.payload());
    }
    out.freeze()
}

/// An application that takes every stream, reads all, and says a word back.
fn serve(end: &mut Trunk) {
    while let Some(event) = end.poll_event() {
        match event {
            Event::Opened { stream, .. } => {
                let _ = end.accept(stream);
                let _ = end.write(stream, &mut Bytes::from_static(b"welcome"));
            }
            Event::Readable(stream) => {
                while let Ok(Read::Data(_) | Read::Finished) = end.read(stream, 4096) {}
                if stream.number() % 4 < 2 {
                    let _ = end.finish(stream);
                }
            }
            _ => {}
        }
    }
}
