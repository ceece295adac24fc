//! Lanes that delay, stall, die at any byte and come back: what is written arrives exactly.

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

use proptest::prelude::*;
use renkei_trunk::Config;
use simulation::direct::{Pair, one};
use simulation::flows::Flows;
use simulation::{ACCEPTOR, DIALER, World, small_config};

#[test]
fn bytes_cross_both_ways_over_one_lane() {
    let mut world = World::connected(1, small_config());
    let mut flows = Flows::new(5000);
    flows.open(&mut world, DIALER, 300_000, 70_000);
    flows.run(&mut world, Duration::from_secs(30));
    flows.check_delivery();
    assert!(flows.all_clean());
}

/// What goes wrong, and how often in a thousand milliseconds.
#[derive(Clone, Debug)]
struct Weather {
    cuts: u64,
    unnoticed: bool,
    stalls: u64,
    drains: u64,
    lanes: usize,
}

fn weather() -> impl Strategy<Value = Weather> {
    (0u64..12, any::<bool>(), 0u64..8, 0u64..6, 1usize..6).prop_map(
        |(cuts, unnoticed, stalls, drains, lanes)| Weather {
            cuts,
            unnoticed,
            stalls,
            drains,
            lanes,
        },
    )
}

fn blow(world: &mut World, weather: &Weather) {
    let live = world.live_links();
    if live.len() < weather.lanes && world.dice.one_in(20) {
        world.add_lane();
    }
    if live.is_empty() {
        return;
    }
    let index = live[world.dice.below(live.len() as u64) as usize];
    let now = world.now();
    if world.dice.below(1000) < weather.cuts {
        let notice = |world: &mut World| !weather.unnoticed || world.dice.one_in(2);
        let noticed = [notice(world), notice(world)];
        world.cut(index, noticed);
    } else if world.dice.below(1000) < weather.stalls {
        let pause = Duration::from_millis(world.dice.below(3000));
        world.links[index].stalled_until = world.at + pause;
    } else if world.dice.below(1000) < weather.drains {
        let lane = world.links[index].lane;
        let side = if world.links[index].up[ACCEPTOR] {
            world.dice.below(2) as usize
        } else {
            0
        };
        world.end(side).close_lane(now, lane);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_arrives_exactly_while_lanes_die(
        seed in any::<u64>(),
        weather in weather(),
        streams in proptest::collection::vec((any::<bool>(), 0u64..200_000, 0u64..60_000), 1..12),
        write in 1u64..9000,
        budget in 600usize..70_000,
    ) {
        let mut world = World::connected(seed, small_config());
        world.budget = budget;
        let mut flows = Flows::new(write);
        world.run_for(Duration::from_millis(20));
        for (dials, there, back) in streams {
            flows.open(&mut world, if dials { DIALER } else { ACCEPTOR }, there, back);
        }
        let storm = world.at + Duration::from_secs(15);
        while world.at < storm && !flows.all_ended() {
            blow(&mut world, &weather);
            flows.step(&mut world);
        }
        // As soon as a lane lives, everything comes to its end.
        let calm = Weather { cuts: 0, stalls: 0, drains: 0, ..weather };
        let end = world.at + Duration::from_secs(60);
        while !flows.all_ended() {
            prop_assert!(world.at < end, "no progress: {:?}", flows.halves);
            blow(&mut world, &calm);
            flows.step(&mut world);
        }
        flows.check_delivery();
        prop_assert!(flows.all_clean());
        // And nothing is remembered of it.
        for _ in 0..8000 {
            blow(&mut world, &calm);
            flows.step(&mut world);
        }
        for side in [DIALER, ACCEPTOR] {
            prop_assert_eq!(world.end(side).streams(), 0);
            prop_assert_eq!(world.end(side).bytes_kept(), 0);
            prop_assert_eq!(world.end(side).bytes_held(), 0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_outage_is_a_pause_within_the_grace_time_and_a_reset_after_it(
        seed in any::<u64>(),
        outage in 6_000u64..16_000,
        noticed in any::<[bool; 2]>(),
        bytes in 1u64..400_000,
    ) {
        let mut world = World::connected(seed, small_config());
        let mut flows = Flows::new(5000);
        flows.open(&mut world, DIALER, bytes, bytes / 2);
        flows.open(&mut world, DIALER, 0, bytes);
        for _ in 0..world.dice.below(300) {
            flows.step(&mut world);
        }
        for index in world.live_links() {
            world.cut(index, noticed);
        }
        let over = world.at + Duration::from_millis(outage);
        while world.at < over {
            flows.step(&mut world);
        }
        let end = world.at + Duration::from_secs(40);
        while !flows.all_ended() && world.dialer().closed().is_none() {
            prop_assert!(world.at < end, "no progress: {:?}", flows.halves);
            if world.live_links().is_empty() && world.dice.one_in(50) {
                world.add_lane();
            }
            flows.step(&mut world);
        }
        flows.step(&mut world);
        flows.check_delivery();
        // Half a second for a handshake, three for an end to notice.
        prop_assert!(outage > 9_400 || flows.all_clean());
        if outage > 13_500 {
            prop_assert!(world.dialer().closed().is_some());
            prop_assert!(flows.halves[DIALER].values().all(|half| half.ended.is_some()));
        }
    }
}

#[test]
fn the_end_that_cannot_dial_asks_for_lanes_and_its_last_word_counts() {
    let mut pair = Pair::new(Config::default());
    let (lane, now) = (pair.lanes[0], pair.now);
    pair.ends[ACCEPTOR].want_lanes(4);
    let first = one(&mut pair.ends[ACCEPTOR], now, lane).expect("a frame");
    pair.ends[ACCEPTOR].want_lanes(4);
    assert_eq!(
        one(&mut pair.ends[ACCEPTOR], now, lane),
        None,
        "said already"
    );
    pair.ends[ACCEPTOR].want_lanes(1000);
    let second = one(&mut pair.ends[ACCEPTOR], now, lane).expect("a frame");
    for frame in [second, first] {
        pair.ends[DIALER].receive(now, lane, frame).expect("taken");
    }
    let most = Config::default().max_lanes;
    assert_eq!(
        pair.ends[DIALER].lanes_wanted(),
        most,
        "and no more than it may have"
    );
}
