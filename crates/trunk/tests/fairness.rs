//! Whose bytes leave first.

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

use std::collections::BTreeMap;

use bytes::Bytes;
use renkei_trunk::{Config, StreamId};
use simulation::DIALER;
use simulation::direct::Pair;

fn config() -> Config {
    let mut config = Config {
        send_buffer: 256 << 20,
        ahead: 64 << 20,
        ..Config::default()
    };
    config.limits.stream_window = 16 << 20;
    config.limits.trunk_window = 1 << 30;
    config
}

/// The streams of the next DATA frames, with their lengths.
fn leaving(pair: &mut Pair, frames: usize) -> Vec<(u64, usize)> {
    let (lane, now) = (pair.lanes[0], pair.now);
    let mut out = Vec::new();
    while out.len() < frames {
        let Some(frame) = pair.ends[DIALER].poll_transmit(now, lane, 64 * 1024) else {
            break;
        };
        if matches!(frame.header()[0], 0x10 | 0x11) {
            let number = frame.header()[4..12].try_into().expect("eight bytes");
            out.push((u64::from_be_bytes(number), frame.payload().len()));
        }
    }
    out
}

fn fill(pair: &mut Pair, id: StreamId, bytes: usize) {
    assert_eq!(pair.write(DIALER, id, &vec![0; bytes]), bytes);
}

#[test]
fn a_thousand_small_streams_leave_within_one_round_of_a_large_one() {
    let mut pair = Pair::new(config());
    let large = pair.open(DIALER);
    fill(&mut pair, large, 8 << 20);
    leaving(&mut pair, 10);
    for _ in 0..1000 {
        let id = pair.ends[DIALER].open(Bytes::new()).expect("open");
        pair.write(DIALER, id, &[1; 200]);
    }
    let order = leaving(&mut pair, 1010);
    let last = order
        .iter()
        .rposition(|(id, _)| *id != large.number())
        .expect("small ones");
    let before: usize = order[..last]
        .iter()
        .filter(|(id, _)| *id == large.number())
        .map(|(_, len)| len)
        .sum();
    assert_eq!(
        order.iter().filter(|(id, _)| *id != large.number()).count(),
        1000
    );
    assert!(
        before <= 64 * 1024,
        "{before} bytes of the large stream went before"
    );
}

#[test]
fn a_stream_that_speaks_again_and_again_waits_for_at_most_one_turn() {
    let mut pair = Pair::new(config());
    let (large, small) = (pair.open(DIALER), pair.open(DIALER));
    fill(&mut pair, large, 8 << 20);
    for _ in 0..20 {
        leaving(&mut pair, 3);
        pair.write(DIALER, small, b"ping");
        let order = leaving(&mut pair, 3);
        assert!(
            order.iter().any(|(id, _)| *id == small.number()),
            "{order:?} {large}"
        );
    }
}

#[test]
fn large_streams_share_by_bytes() {
    let mut pair = Pair::new(config());
    let ids: Vec<_> = (0..4).map(|_| pair.open(DIALER)).collect();
    for id in &ids[1..] {
        fill(&mut pair, *id, 4 << 20);
    }
    // One of them writes in small pieces, from which it neither wins nor loses.
    for _ in 0..1000 {
        fill(&mut pair, ids[0], 2100);
    }
    let mut sums: BTreeMap<u64, usize> = ids.iter().map(|id| (id.number(), 0)).collect();
    for (id, len) in leaving(&mut pair, 600) {
        *sums.get_mut(&id).expect("one of them") += len;
    }
    let (least, most) = (sums.values().min().unwrap(), sums.values().max().unwrap());
    assert!(most - least <= 2 * 64 * 1024, "{sums:?}");
}
