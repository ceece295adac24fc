//! What applications see: ends, resets, refusals, limits.

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
use renkei_trunk::{Code, Config, Event, OpenError, Read, ResetCause, StreamError};
use simulation::direct::Pair;
use simulation::{ACCEPTOR, DIALER, small_config};

const BOTH: [usize; 2] = [DIALER, ACCEPTOR];
/// After this the acknowledgement of an end has come, which is not urgent.
const END_TOLD: Duration = Duration::from_millis(50);

#[test]
fn each_direction_ends_on_its_own() {
    for side in BOTH {
        let mut pair = Pair::new(Config::default());
        let id = pair.open(side);
        pair.write(side, id, b"question");
        pair.ends[side].finish(id).expect("finish");
        pair.shuttle();
        assert_eq!(pair.read(1 - side, id), (b"question".to_vec(), true));
        pair.write(1 - side, id, b"answer");
        pair.shuttle();
        assert_eq!(pair.read(side, id), (b"answer".to_vec(), false));
        pair.ends[1 - side].finish(id).expect("finish");
        pair.shuttle();
        assert_eq!(pair.read(side, id), (Vec::new(), true));
        pair.pass(END_TOLD);
        assert_eq!([pair.ends[0].streams(), pair.ends[1].streams()], [0, 0]);
        let ended = pair.ends[side].read(id, 1);
        assert_eq!(ended, Err(StreamError::Unknown));
    }
}

#[test]
fn a_stream_without_bytes_ends_cleanly() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    for side in BOTH {
        pair.ends[side].finish(id).expect("finish");
    }
    pair.shuttle();
    for side in BOTH {
        assert_eq!(pair.read(side, id), (Vec::new(), true));
    }
    pair.pass(END_TOLD);
    assert_eq!(pair.ends[ACCEPTOR].streams(), 0);
}

#[test]
fn a_reset_is_no_clean_end_and_comes_behind_what_had_come() {
    for side in BOTH {
        let mut pair = Pair::new(Config::default());
        let id = pair.open(side);
        pair.write(side, id, &[1; 100_000]);
        pair.shuttle();
        pair.ends[side].reset(id, Code::CANCELLED).expect("reset");
        pair.shuttle();
        let events = pair.events(1 - side);
        assert!(events.contains(&Event::Reset(id, ResetCause::Peer(Code::CANCELLED))));
        let (read, finished) = pair.read(1 - side, id);
        assert!(read == [1; 100_000] && !finished, "{} bytes", read.len());
        assert_eq!(pair.read(1 - side, id), (Vec::new(), false));
        // The other direction goes on.
        pair.write(1 - side, id, b"still here");
        pair.ends[1 - side].finish(id).expect("finish");
        pair.shuttle();
        assert_eq!(pair.read(side, id), (b"still here".to_vec(), true));
        pair.pass(END_TOLD);
        assert_eq!(pair.ends[0].streams() + pair.ends[1].streams(), 0);
        assert_eq!(pair.ends[1 - side].bytes_held(), 0);
    }
}

#[test]
fn what_came_before_a_reset_may_be_left_unread() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    pair.write(DIALER, id, &[1; 100_000]);
    pair.shuttle();
    pair.ends[DIALER].reset(id, Code::CANCELLED).expect("reset");
    pair.shuttle();
    pair.ends[ACCEPTOR].read(id, 10).expect("a part");
    pair.ends[ACCEPTOR].stop(id, Code::CANCELLED).expect("stop");
    pair.ends[ACCEPTOR].finish(id).expect("finish");
    pair.shuttle();
    assert_eq!(pair.read(DIALER, id), (Vec::new(), true));
    pair.pass(END_TOLD);
    assert_eq!(pair.ends[0].streams() + pair.ends[1].streams(), 0);
    assert_eq!(pair.ends[ACCEPTOR].bytes_held(), 0);
}

#[test]
fn a_receiver_that_wants_no_more_stops_the_sender() {
    for side in BOTH {
        let mut pair = Pair::new(Config::default());
        let id = pair.open(side);
        pair.write(side, id, &[1; 400_000]);
        pair.shuttle();
        pair.ends[1 - side].stop(id, Code(9)).expect("stop");
        pair.shuttle();
        assert!(pair.events(side).contains(&Event::Stopped(id, Code(9))));
        assert_eq!(pair.ends[side].bytes_kept(), 0);
        let write = pair.ends[side].write(id, &mut Bytes::from_static(b"x"));
        assert_eq!(write, Err(StreamError::Ended));
        pair.ends[1 - side].finish(id).expect("finish");
        pair.shuttle();
        assert_eq!(pair.read(side, id), (Vec::new(), true));
        pair.pass(END_TOLD);
        assert_eq!(pair.ends[0].streams() + pair.ends[1].streams(), 0);
    }
}

#[test]
fn a_refused_stream_says_why_and_is_forgotten() {
    let mut pair = Pair::new(Config::default());
    let id = pair.ends[DIALER]
        .open(Bytes::from_static(b"db:5432"))
        .expect("open");
    pair.write(DIALER, id, b"early");
    pair.shuttle();
    let opened = Event::Opened {
        stream: id,
        target: Bytes::from_static(b"db:5432"),
    };
    assert!(pair.events(ACCEPTOR).contains(&opened));
    let reason = format!("no\n{}", "x".repeat(400));
    pair.ends[ACCEPTOR]
        .refuse(id, Code::UNREACHABLE, &reason)
        .expect("refuse");
    pair.shuttle();
    let reason = format!("no{}", "x".repeat(253));
    let refused = Event::Refused {
        stream: id,
        code: Code::UNREACHABLE,
        reason,
    };
    assert_eq!(pair.events(DIALER), [refused]);
    assert_eq!(pair.ends[0].streams() + pair.ends[1].streams(), 0);
    assert_eq!(pair.ends[0].bytes_kept() + pair.ends[1].bytes_held(), 0);
}

#[test]
fn both_ends_open_at_once() {
    let mut pair = Pair::new(Config::default());
    let ids: Vec<_> = (0..200)
        .map(|i| {
            let side = i % 2;
            let id = pair.ends[side].open(Bytes::new()).expect("open");
            pair.write(side, id, format!("from {id}").as_bytes());
            pair.ends[side].finish(id).expect("finish");
            (side, id)
        })
        .collect();
    pair.shuttle();
    for (side, id) in ids {
        assert_eq!(
            pair.read(1 - side, id),
            (format!("from {id}").into_bytes(), true)
        );
    }
}

#[test]
fn ten_thousand_streams_leave_nothing_behind() {
    let mut pair = Pair::new(small_config());
    pair.add_lane();
    let mut opened = 0;
    while opened < 10_000 {
        match pair.ends[opened % 2].open(Bytes::new()) {
            Ok(id) => {
                pair.write(opened % 2, id, b"hello");
                pair.ends[opened % 2].finish(id).expect("finish");
                opened += 1;
            }
            Err(error) => {
                // Until the ends of others have been acknowledged, which is not urgent.
                assert_eq!(error, OpenError::StreamLimit);
                pair.pass(END_TOLD);
            }
        }
        pair.shuttle();
        for side in BOTH {
            for event in pair.events(side) {
                if let Event::Opened { stream, .. } = event {
                    pair.ends[side].accept(stream).expect("accept");
                    pair.ends[side].finish(stream).expect("finish");
                } else if let Event::Readable(stream) = event {
                    while !matches!(
                        pair.ends[side].read(stream, 100),
                        Ok(Read::Finished | Read::Pending) | Err(_)
                    ) {}
                }
            }
        }
        pair.shuttle();
    }
    pair.pass(Duration::from_millis(500));
    for side in BOTH {
        for event in pair.events(side) {
            if let Event::Readable(stream) = event {
                while matches!(pair.ends[side].read(stream, 100), Ok(Read::Data(_))) {}
            }
        }
    }
    pair.pass(Duration::from_millis(500));
    for side in BOTH {
        let end = &pair.ends[side];
        assert_eq!(
            (end.streams(), end.bytes_held(), end.bytes_kept()),
            (0, 0, 0)
        );
    }
}

#[test]
fn a_trunk_that_goes_away_finishes_what_it_carries() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    pair.ends[ACCEPTOR].go_away();
    pair.shuttle();
    assert!(pair.events(DIALER).contains(&Event::GoingAway));
    assert_eq!(
        pair.ends[DIALER].open(Bytes::new()),
        Err(OpenError::GoingAway)
    );
    assert_eq!(
        pair.ends[ACCEPTOR].open(Bytes::new()),
        Err(OpenError::GoingAway)
    );
    pair.write(DIALER, id, b"goes on");
    pair.shuttle();
    assert_eq!(pair.read(ACCEPTOR, id).0, b"goes on");
}

#[test]
fn a_closed_trunk_resets_its_streams_at_both_ends() {
    let mut pair = Pair::new(Config::default());
    let id = pair.open(DIALER);
    pair.write(DIALER, id, b"unread");
    pair.shuttle();
    pair.events(ACCEPTOR);
    pair.ends[DIALER].close(Code::REVOKED, "no longer allowed");
    pair.shuttle();
    for side in BOTH {
        let events = pair.events(side);
        assert!(
            events.contains(&Event::Reset(id, ResetCause::Trunk)),
            "{events:?}"
        );
        assert!(matches!(events.last(), Some(Event::Closed(_))));
        assert_eq!(pair.ends[side].next_timeout(), None);
    }
    let reason = pair.ends[ACCEPTOR].closed().expect("closed").to_string();
    assert_eq!(
        reason,
        "the other end closed the trunk with code 4: no longer allowed"
    );
}
