//! Two honest ends and lanes that come, stall, die and are closed as the input says, in any order
//! with streams that open: nobody breaks the protocol, memory stays within its bounds, and once
//! there is a lane again every stream ends cleanly behind exactly what was written. Only a trunk
//! that had no lane for longer than its grace time resets them.
//!
//! The first byte is the seed of chance; then come pairs of a deed and how it is done.

#![no_main]

#[path = "../../crates/trunk/tests/simulation/mod.rs"]
mod simulation;

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use simulation::{ACCEPTOR, DIALER, World, flows::Flows, small_config};

/// Streams of one run, and bytes of one direction of them.
const STREAMS: usize = 12;
const BYTES: u64 = 1 << 16;
/// Deeds of one run.
const DEEDS: usize = 64;
/// When everything must have ended, in the time of the simulation.
const LIMIT: Duration = Duration::from_secs(120);

fuzz_target!(|input: &[u8]| {
    let Some((seed, deeds)) = input.split_first() else {
        return;
    };
    let mut world = World::connected(u64::from(*seed), small_config());
    let mut flows = Flows::new(20_000);
    for deed in deeds.chunks_exact(2).take(DEEDS) {
        act(&mut world, &mut flows, deed[0], deed[1]);
        flows.step(&mut world);
    }
    while !flows.all_ended() {
        assert!(world.at < LIMIT, "no end: {:?}", flows.halves);
        if world.live_links().is_empty() && world.dialer().closed().is_none() {
            world.add_lane();
        }
        flows.step(&mut world);
    }
    flows.check_delivery();
    assert!(world.dialer().closed().is_some() || flows.all_clean());
});

fn act(world: &mut World, flows: &mut Flows, deed: u8, how: u8) {
    let live = world.live_links();
    let one = live.get(usize::from(how) % live.len().max(1)).copied();
    match (deed % 8, one) {
        (0 | 1, _) => open(world, flows, how),
        (2, _) => drop(world.add_lane()),
        (3, Some(link)) => world.cut(link, [deed & 8 != 0, deed & 16 != 0]),
        (4, Some(link)) => {
            let link = &mut world.links[link];
            link.stalled_until = world.at + Duration::from_millis(u64::from(how) * 16);
        }
        (5, Some(link)) => {
            let (now, side) = (world.now(), usize::from(deed >> 3 & 1));
            let lane = world.links[link].lane;
            if world.links[link].up[side] {
                world.end(side).close_lane(now, lane);
            }
        }
        _ => {
            for _ in 0..how {
                flows.step(world);
            }
        }
    }
}

fn open(world: &mut World, flows: &mut Flows, how: u8) {
    let side = if how & 1 == 0 { DIALER } else { ACCEPTOR };
    if flows.answers.len() < STREAMS && world.end(side).closed().is_none() {
        let bytes = |part: u8| u64::from(part) * BYTES / 8;
        flows.open(world, side, bytes(how >> 1 & 7), bytes(how >> 4 & 7));
    }
}
