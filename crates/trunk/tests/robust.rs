//! Bytes and frames at random: no panic, and memory within its bounds.

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
use proptest::prelude::*;
use renkei_trunk::{CloseReason, Event, Greeting, Read};
use simulation::direct::{Pair, n8, one, raw};
use simulation::{ACCEPTOR, DIALER, small_config};

/// Frames that mostly make sense.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let number = prop_oneof![0u64..40, 0u64..70_000, any::<u64>()];
    let kind = prop_oneof![
        4 => Just(0x10u8),
        2 => Just(0x11u8),
        6 => 0x12u8..0x19,
        2 => 0x20u8..0x28,
        1 => any::<u8>()
    ];
    (kind, 0u64..8, number.clone(), number, 0usize..3000).prop_map(|(kind, stream, a, b, len)| {
        let code: &[u8] = &[0, 0, 0, 1];
        let stream: &[u8] = &n8(stream);
        match kind {
            0x10 | 0x11 => raw(kind, &[stream, &n8(a), &vec![b as u8; len]]),
            0x12 => raw(kind, &[stream, &vec![b'x'; len / 3]]),
            0x14 => raw(kind, &[stream, code, &vec![b'x'; len / 12]]),
            0x15 => raw(kind, &[stream, &n8(a), &n8(b)]),
            0x16 => raw(kind, &[stream, code, &n8(a)]),
            0x17 => raw(kind, &[stream, code]),
            0x18 | 0x20 => raw(kind, &[stream, &n8(a)]),
            0x24..=0x26 => raw(kind, &[]),
            0x27 => raw(kind, &[code, b"\n bye"]),
            _ => raw(kind, &[&n8(a % 9)]),
        }
    })
}

/// Gives bytes to an end that has streams of both sides, and lets its application go on.
fn survive(side: usize, input: &[u8], chunk: usize) {
    let mut pair = Pair::new(small_config());
    for side in [DIALER, ACCEPTOR] {
        let id = pair.open(side);
        pair.write(DIALER, id, b"bytes on the way");
        pair.write(ACCEPTOR, id, b"and back");
    }
    let (lane, now) = (pair.lanes[0], pair.now);
    let end = &mut pair.ends[side];
    for part in input.chunks(chunk) {
        let taken = end.receive(now, lane, Bytes::copy_from_slice(part));
        assert_eq!(
            taken.is_err(),
            matches!(end.closed(), Some(CloseReason::Violation(_)))
        );
        assert!(end.bytes_held() <= small_config().limits.trunk_window);
        while let Some(event) = end.poll_event() {
            match event {
                Event::Opened { stream, .. } => end.accept(stream).unwrap_or_default(),
                Event::Readable(id) => while let Ok(Read::Data(_)) = end.read(id, 9999) {},
                _ => {}
            }
        }
        while one(end, now, lane).is_some() {}
        if taken.is_err() {
            break;
        }
    }
    let later = now + small_config().grace * 2;
    end.handle_timeout(later);
    end.lane_down(later, lane);
    end.handle_timeout(later + small_config().grace);
    assert!(end.closed().is_some() && end.streams() == 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(
        side in 0usize..2,
        input in proptest::collection::vec(any::<u8>(), 0..4000),
        chunk in 1usize..2000,
    ) {
        survive(side, &input, chunk);
        let _ = Greeting::new().receive(&mut Bytes::from(input));
    }

    #[test]
    fn frames_in_any_order_never_panic_and_stay_within_bounds(
        side in 0usize..2,
        frames in proptest::collection::vec(frame(), 0..60),
        chunk in 1usize..5000,
        cut in 0usize..100,
    ) {
        let mut input = frames.concat();
        input.truncate(input.len().saturating_sub(cut));
        survive(side, &input, chunk);
    }
}
