//! Lanes lost and found, ends restarted, idle hours.

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
use renkei_trunk::{
    CloseReason, Code, Config, Event, Greeting, LaneError, LaneRefusal, OpenError, ResetCause,
    Trunk,
};
use simulation::direct::{Pair, one};
use simulation::{ACCEPTOR, DIALER, PEER_OF_ACCEPTOR, PEER_OF_DIALER, small_config};

#[test]
fn what_a_lost_lane_carried_goes_out_on_another() {
    let mut pair = Pair::new(Config::default());
    let second = pair.add_lane();
    pair.shuttle();
    let id = pair.open(DIALER);
    pair.write(DIALER, id, &[3; 200_000]);
    pair.ends[DIALER].finish(id).expect("finish");
    // The first lane takes frames that never arrive.
    let (first, now) = (pair.lanes[0], pair.now);
    while one(&mut pair.ends[DIALER], now, first).is_some() {}
    pair.carry(second, DIALER);
    assert_eq!(pair.read(ACCEPTOR, id), (Vec::new(), false));
    pair.lose(first);
    pair.shuttle();
    assert_eq!(pair.read(ACCEPTOR, id), (vec![3; 200_000], true));
}

#[test]
fn a_resumed_trunk_repeats_nothing_that_arrived() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    let (lane, now) = (pair.lanes[0], pair.now);
    pair.write(DIALER, id, &[5; 200_000]);
    // All of it arrives, but no acknowledgement comes back before the lane dies.
    pair.carry(lane, DIALER);
    while one(&mut pair.ends[ACCEPTOR], now, lane).is_some() {}
    pair.lose(lane);
    assert!(matches!(pair.events(DIALER)[..], [Event::Suspended { .. }]));
    pair.pass(Duration::from_secs(10));
    let before = pair.bytes[DIALER];
    pair.add_lane();
    pair.shuttle();
    assert!(
        pair.bytes[DIALER] - before < 1000,
        "sent {} again",
        pair.bytes[DIALER] - before
    );
    assert!(pair.events(DIALER).contains(&Event::Resumed));
    assert_eq!(pair.ends[DIALER].bytes_kept(), 0);
    assert_eq!(pair.read(ACCEPTOR, id).0.len(), 200_000);
}

#[test]
fn after_the_grace_time_every_stream_is_reset_and_none_ends_cleanly() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    pair.write(DIALER, id, b"the beginning");
    pair.shuttle();
    pair.ends[DIALER].finish(id).expect("finish");
    pair.lose(pair.lanes[0]);
    pair.pass(Duration::from_millis(29_900));
    assert!(pair.ends.iter().all(|end| end.closed().is_none()));
    pair.pass(Duration::from_millis(200));
    for side in [DIALER, ACCEPTOR] {
        let events = pair.events(side);
        assert!(events.contains(&Event::Reset(id, ResetCause::Trunk)));
        assert_eq!(events.last(), Some(&Event::Closed(CloseReason::Lost)));
        assert_eq!(pair.ends[side].open(Bytes::new()), Err(OpenError::Closed));
    }
    let now = pair.now;
    let lane = pair.ends[DIALER].add_lane(now, PEER_OF_DIALER);
    assert_eq!(lane, Err(LaneError::Closed));
}

#[test]
fn an_acceptor_that_was_restarted_does_not_know_the_trunk() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    pair.ends[DIALER].lane_down(pair.now, pair.lanes[0]);
    let lane = pair.ends[DIALER]
        .add_lane(pair.now, PEER_OF_DIALER)
        .expect("lane");
    let mut bytes = one(&mut pair.ends[DIALER], pair.now, lane).expect("HELLO");
    let hello = Greeting::new().receive(&mut bytes).unwrap().unwrap();
    let made = Trunk::accept_trunk(pair.now, Config::default(), &hello, PEER_OF_ACCEPTOR, 6);
    let refusal = made.expect_err("not made anew");
    assert_eq!(refusal, LaneRefusal::UnknownTrunk);
    let frame = Bytes::copy_from_slice(refusal.frame().header());
    pair.ends[DIALER]
        .receive(pair.now, lane, frame)
        .expect("a refusal is no violation");
    let events = pair.events(DIALER);
    assert!(events.contains(&Event::LaneRefused(lane, LaneRefusal::UnknownTrunk)));
    assert!(events.contains(&Event::Reset(id, ResetCause::Trunk)));
    assert_eq!(events.last(), Some(&Event::Closed(CloseReason::Forgotten)));
}

#[test]
fn a_lane_of_another_identity_is_refused_at_either_end() {
    let mut pair = Pair::new(Config::default());
    let other = pair.ends[DIALER].add_lane(pair.now, "spiffe://b/other");
    assert_eq!(other, Err(LaneError::Refused(LaneRefusal::Identity)));
    let lane = pair.ends[DIALER]
        .add_lane(pair.now, PEER_OF_DIALER)
        .expect("lane");
    let mut bytes = one(&mut pair.ends[DIALER], pair.now, lane).expect("HELLO");
    let hello = Greeting::new().receive(&mut bytes).unwrap().unwrap();
    let taken = pair.ends[ACCEPTOR].accept_lane(pair.now, &hello, "spiffe://a/other");
    assert_eq!(taken, Err(LaneRefusal::Identity));
    assert_eq!(pair.ends[ACCEPTOR].ready_lanes(), 1);
}

#[test]
fn a_dialer_knows_how_many_lanes_are_taken_as_soon_as_one_is_refused() {
    let mut pair = Pair::new(Config::default());
    for _ in 1..3 {
        pair.add_lane();
    }
    pair.shuttle();
    pair.ends[ACCEPTOR].limit_accepted(3);
    let lane = pair.ends[DIALER]
        .add_lane(pair.now, PEER_OF_DIALER)
        .expect("lane");
    let mut bytes = one(&mut pair.ends[DIALER], pair.now, lane).expect("HELLO");
    let hello = Greeting::new().receive(&mut bytes).unwrap().unwrap();
    let taken = pair.ends[ACCEPTOR].accept_lane(pair.now, &hello, PEER_OF_ACCEPTOR);
    assert_eq!(taken, Err(LaneRefusal::TooManyLanes));
    assert_eq!(pair.ends[DIALER].lanes_taken(pair.now), None);
    let frame = Bytes::copy_from_slice(LaneRefusal::TooManyLanes.frame().header());
    pair.ends[DIALER]
        .receive(pair.now, lane, frame)
        .expect("a refusal is no violation");
    // Before anything hears of it. The third is for the replacement of another.
    assert_eq!(pair.ends[DIALER].coming_lanes(), 3);
    assert_eq!(pair.ends[DIALER].lanes_taken(pair.now), Some(2));
    let later = pair.now + Duration::from_mins(5);
    assert_eq!(pair.ends[DIALER].lanes_taken(later), None);
}

#[test]
fn a_dialer_that_lost_its_lanes_replaces_those_the_acceptor_still_believes_in() {
    let mut pair = Pair::new(small_config());
    for _ in 1..8 {
        pair.add_lane();
    }
    pair.shuttle();
    let stale = std::mem::take(&mut pair.lanes);
    for lane in &stale {
        pair.ends[DIALER].lane_down(pair.now, *lane);
    }
    pair.add_lane();
    pair.shuttle();
    assert_eq!(pair.ends[ACCEPTOR].ready_lanes(), 1);
    let events = pair.events(ACCEPTOR);
    assert!(
        stale
            .iter()
            .all(|lane| events.contains(&Event::LaneDead(*lane)))
    );
}

#[test]
fn a_drained_lane_takes_nothing_with_it() {
    for side in [DIALER, ACCEPTOR] {
        let mut pair = Pair::new(Config::default());
        pair.add_lane();
        pair.shuttle();
        let id = pair.open(DIALER);
        let first = pair.lanes[0];
        pair.write(DIALER, id, &[5; 100_000]);
        pair.carry(first, DIALER);
        pair.ends[side].close_lane(pair.now, first);
        let before = pair.bytes[DIALER];
        pair.shuttle();
        for end in [DIALER, ACCEPTOR] {
            assert!(pair.events(end).contains(&Event::LaneClosed(first)));
            assert_eq!(pair.ends[end].ready_lanes(), 1);
        }
        assert!(pair.bytes[DIALER] - before < 1000, "nothing is sent again");
        assert_eq!(pair.read(ACCEPTOR, id).0.len(), 100_000);
    }
}

#[test]
fn an_idle_trunk_costs_a_ping_per_interval_and_lives_for_hours() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    pair.pass(Duration::from_secs(1));
    let before = pair.carried[0] + pair.carried[1];
    pair.pass(Duration::from_secs(3600));
    let frames = pair.carried[0] + pair.carried[1] - before;
    assert!(frames <= 4 * 3600 / 15, "{frames} frames in an idle hour");
    assert!(pair.ends[DIALER].round_trip(pair.lanes[0]).is_some());
    pair.write(DIALER, id, b"good morning");
    pair.shuttle();
    assert_eq!(pair.read(ACCEPTOR, id).0, b"good morning");
}

#[test]
fn a_silent_lane_is_found_dead_within_seconds_when_it_carries_bytes() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    pair.pass(Duration::from_secs(14));
    pair.write(DIALER, id, b"into the void");
    let lane = pair.lanes[0];
    while one(&mut pair.ends[DIALER], pair.now, lane).is_some() {}
    pair.lanes.clear();
    pair.pass(Duration::from_secs(8));
    assert!(pair.events(DIALER).contains(&Event::LaneDead(lane)));
    pair.pass(Duration::from_secs(15));
    assert!(pair.events(ACCEPTOR).contains(&Event::LaneDead(lane)));
}

#[test]
fn a_lane_that_never_greets_is_given_up() {
    let mut pair = Pair::new(Config::default());
    let lane = pair.ends[DIALER]
        .add_lane(pair.now, PEER_OF_DIALER)
        .expect("lane");
    pair.pass(Duration::from_secs(6));
    assert_eq!(pair.events(DIALER), [Event::LaneDead(lane)]);
    assert_eq!(pair.ends[DIALER].ready_lanes(), 1);
}

#[test]
fn steering_frames_of_a_lost_lane_are_sent_again() {
    let mut pair = Pair::new(Config::default());
    let second = pair.add_lane();
    pair.shuttle();
    let first = pair.lanes[0];
    let id = pair.open(DIALER);
    let fresh = pair.ends[DIALER]
        .open(Bytes::from_static(b"fresh"))
        .expect("open");
    pair.ends[DIALER].reset(id, Code(3)).expect("reset");
    pair.ends[DIALER].stop(id, Code(4)).expect("stop");
    while one(&mut pair.ends[DIALER], pair.now, first).is_some() {}
    pair.carry(second, DIALER);
    assert!(pair.events(ACCEPTOR).is_empty());
    pair.lose(first);
    pair.shuttle();
    let target = Bytes::from_static(b"fresh");
    let expected = [
        Event::Opened {
            stream: fresh,
            target,
        },
        Event::Reset(id, ResetCause::Peer(Code(3))),
        Event::Stopped(id, Code(4)),
    ];
    assert_eq!(pair.events(ACCEPTOR), expected);
}
