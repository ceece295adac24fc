use std::collections::BTreeMap;

use super::*;

fn rotation(count: u16) -> Rotation {
    let address = |n| BackendAddress::parse(&format!("192.0.2.1:{}", 9_000 + n)).unwrap();
    Rotation::new(&(0..count).map(address).collect::<Vec<_>>())
}

fn refusal() -> Failed {
    Failed {
        reason: "refused".to_owned(),
        is_silent: false,
    }
}

fn silence() -> Failed {
    Failed {
        reason: "no answer".to_owned(),
        is_silent: true,
    }
}

fn first(rotation: &mut Rotation, now: Instant) -> Choice {
    rotation.choose(&[], now).expect("a backend")
}

/// Makes one attempt fail for good: the backend is ejected at `now`.
fn eject(rotation: &mut Rotation, index: usize, failed: Failed, now: Instant) {
    let choice = Choice {
        index,
        kind: Kind::Up,
    };
    let change = rotation.failed(choice, failed, (now, OffsetDateTime::UNIX_EPOCH));
    assert_eq!(change, Some(Change::Ejected));
}

fn shares(rotation: &mut Rotation, now: Instant, connections: usize) -> Vec<(usize, usize)> {
    let mut shares = BTreeMap::new();
    for _ in 0..connections {
        let choice = first(rotation, now);
        rotation.succeeded(choice);
        *shares.entry(choice.index).or_default() += 1;
    }
    shares.into_iter().collect()
}

#[tokio::test]
async fn the_share_of_an_ejected_backend_is_spread_over_all_others() {
    let (mut rotation, now) = (rotation(4), Instant::now());
    assert_eq!(
        shares(&mut rotation, now, 12),
        [(0, 3), (1, 3), (2, 3), (3, 3)]
    );
    eject(&mut rotation, 1, refusal(), now);
    assert_eq!(shares(&mut rotation, now, 12), [(0, 4), (2, 4), (3, 4)]);
}

#[tokio::test]
async fn one_connection_tries_it_again_when_its_backoff_is_over() {
    let (mut rotation, now) = (rotation(2), Instant::now());
    eject(&mut rotation, 0, silence(), now);
    let mut then = now + FIRST_BACKOFF;
    for backoff in [2, 4, 8, 16, 32, 60, 60] {
        let trial = first(&mut rotation, then);
        assert_eq!((trial.index, trial.kind), (0, Kind::Trial));
        let other = first(&mut rotation, then);
        assert_eq!((other.index, other.kind), (1, Kind::Up), "one at a time");
        let next = rotation.choose(&[0], then).expect("the other");
        assert_eq!((next.index, next.kind), (1, Kind::Up));
        rotation.failed(trial, silence(), (then, OffsetDateTime::UNIX_EPOCH));
        then += Duration::from_secs(backoff);
        let early = then - Duration::from_millis(1);
        assert_eq!(first(&mut rotation, early).index, 1);
    }
    let trial = first(&mut rotation, then);
    assert_eq!(rotation.succeeded(trial), Some(Change::Recovered));
    assert_eq!(shares(&mut rotation, then, 4), [(0, 2), (1, 2)]);
}

#[tokio::test]
async fn a_trial_without_an_outcome_is_made_again() {
    let (mut rotation, now) = (rotation(2), Instant::now());
    eject(&mut rotation, 0, silence(), now);
    let then = now + FIRST_BACKOFF;
    let trial = first(&mut rotation, then);
    rotation.abandoned(trial);
    assert_eq!(first(&mut rotation, then), trial);
}

#[tokio::test]
async fn attempts_that_began_before_the_ejection_do_not_make_it_longer() {
    let (mut rotation, now) = (rotation(2), Instant::now());
    eject(&mut rotation, 0, silence(), now);
    let late = now + FIRST_BACKOFF;
    let earlier = Choice {
        index: 0,
        kind: Kind::Up,
    };
    for _ in 0..100 {
        let change = rotation.failed(earlier, silence(), (late, OffsetDateTime::UNIX_EPOCH));
        assert_eq!(change, None);
    }
    assert_eq!(first(&mut rotation, late).kind, Kind::Trial);
}

#[tokio::test]
async fn with_all_ejected_all_are_tried() {
    let (mut rotation, now) = (rotation(3), Instant::now());
    (0..3).for_each(|index| eject(&mut rotation, index, refusal(), now));
    let mut tried = Vec::new();
    while let Some(choice) = rotation.choose(&tried, now) {
        assert_eq!(choice.kind, Kind::Panic);
        tried.push(choice.index);
    }
    tried.sort_unstable();
    assert_eq!(tried, [0, 1, 2]);
}

#[tokio::test]
async fn one_connection_waits_for_a_silent_backend_and_others_are_told_at_once() {
    let (mut rotation, now) = (rotation(1), Instant::now());
    eject(&mut rotation, 0, silence(), now);
    let waiting = first(&mut rotation, now);
    assert_eq!(rotation.choose(&[], now), None);
    rotation.failed(waiting, silence(), (now, OffsetDateTime::UNIX_EPOCH));
    assert_eq!(rotation.choose(&[], now), Some(waiting));
}

#[tokio::test]
async fn backends_that_stay_keep_what_is_known_of_them() {
    let (mut old, now) = (rotation(2), Instant::now());
    eject(&mut old, 1, refusal(), now);
    let mut new = old.with(
        rotation(3)
            .backends()
            .iter()
            .map(|one| one.address.clone())
            .collect::<Vec<_>>()
            .as_slice(),
    );
    assert_eq!(shares(&mut new, now, 4), [(0, 2), (2, 2)]);
}
