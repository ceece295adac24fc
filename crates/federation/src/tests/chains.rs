//! Site chains: exactly one version up, signed by the thresholds of both, until they expire.

use time::Duration;

use super::world::{NOW, Site, World, key, sign, td};
use crate::{AdmissionStatus, Reason, SiteRoot, Statement};

fn osaka() -> Site {
    Site::new("osaka.example", 100)
}

fn next(osaka: &Site) -> SiteRoot {
    osaka.root(2, Some(osaka.identity()))
}

#[test]
fn a_new_version_is_signed_by_the_thresholds_of_both() {
    let osaka = osaka();
    let ([a, b], [c, d]) = (osaka.root_keys(1), osaka.root_keys(2));
    for (keys, wanted) in [
        (vec![&a, &b, &c, &d], None),
        (vec![&a, &b], Some("its own root keys")),
        (vec![&c, &d], Some("the version before")),
        (vec![&a, &c, &d], Some("the version before")),
        (vec![&a, &b, &c], Some("its own root keys")),
    ] {
        let mut world = World::with(&[&osaka]);
        world.log(&osaka.second(next(&osaka), &keys));
        let refusal = world.refusal();
        match wanted {
            None => assert_eq!(refusal, None),
            Some(part) => assert!(refusal.clone().unwrap().contains(part), "{refusal:?}"),
        }
    }
}

#[test]
fn a_version_that_skips_forks_or_changes_the_name_is_refused() {
    let osaka = osaka();
    let ([a, b], [c, d]) = (osaka.root_keys(1), osaka.root_keys(2));
    let all = [&a, &b, &c, &d];
    let refused = |change: fn(&mut SiteRoot)| {
        let mut world = World::with(&[&osaka]);
        let mut root = next(&osaka);
        change(&mut root);
        world.log(&osaka.second(root, &all));
        world.refusal().unwrap_or_default()
    };
    assert!(refused(|root| root.version = 3).contains("does not follow"));
    let other = |root: &mut SiteRoot| root.prev = Some(crate::Digest::of(b"other"));
    assert!(refused(other).contains("does not follow"));
    let name = |root: &mut SiteRoot| root.trust_domain = td("tokyo.example");
    assert!(refused(name).contains("does not follow"));
    // Two successors, both well signed: the log's order decides, and it is the same for everyone.
    let mut world = World::with(&[&osaka]);
    world.log(&osaka.second(next(&osaka), &all));
    let mut rival = next(&osaka);
    rival.expires += Duration::days(1);
    world.log(&osaka.second(rival, &all));
    assert!(world.refusal().unwrap().contains("does not follow"));
}

#[test]
fn a_genesis_is_signed_by_its_own_threshold_and_counts_once() {
    let osaka = osaka();
    let [a, _] = osaka.root_keys(1);
    let mut world = World::new();
    world.log(&sign(Statement::SiteRoot(osaka.root(1, None)), &[&a]));
    assert!(world.refusal().unwrap().contains("its own root keys"));
    world.log(&osaka.genesis());
    assert_eq!(world.refusal(), None);
    world.log(&osaka.genesis());
    assert!(world.refusal().unwrap().contains("already"));
}

#[test]
fn a_new_online_key_ends_the_bundles_of_the_old_one() {
    let osaka = osaka();
    let ([a, b], [c, d]) = (osaka.root_keys(1), osaka.root_keys(2));
    let mut world = World::with(&[&osaka]);
    let mut root = next(&osaka);
    root.online_keys = vec![key(99).public()];
    world.log(&osaka.second(root, &[&a, &b, &c, &d]));
    assert_eq!(
        world.reason("osaka.example"),
        Some(Reason::OnlineKeyReplaced)
    );
    // The thief of the old key goes on, under either version.
    world.log(&osaka.bundle(2));
    assert!(world.refusal().unwrap().contains("version 1"));
    let mut stolen = osaka.statement(2);
    stolen.root_version = 2;
    world.log(&sign(Statement::Bundle(stolen.clone()), &[&osaka.online()]));
    assert!(world.refusal().unwrap().contains("online key"));
    assert_eq!(
        world.reason("osaka.example"),
        Some(Reason::OnlineKeyReplaced)
    );
    world.log(&sign(Statement::Bundle(stolen), &[&key(99)]));
    assert_eq!(world.sequence("osaka.example"), 2);
}

#[test]
fn a_renewal_that_keeps_the_online_key_interrupts_nothing() {
    let osaka = osaka();
    let ([a, b], [c, d]) = (osaka.root_keys(1), osaka.root_keys(2));
    let mut world = World::with(&[&osaka]);
    world.log(&osaka.second(next(&osaka), &[&a, &b, &c, &d]));
    assert_eq!(world.sequence("osaka.example"), 1);
}

#[test]
fn a_root_that_has_ended_counts_for_nothing_and_can_still_be_followed() {
    let osaka = osaka();
    let ([a, b], [c, d]) = (osaka.root_keys(1), osaka.root_keys(2));
    let mut world = World::with(&[&osaka]);
    let mut root = next(&osaka);
    root.expires = NOW - Duration::days(1);
    world.log(&osaka.second(root.clone(), &[&a, &b, &c, &d]));
    assert_eq!(
        world.reason("osaka.example"),
        Some(Reason::RootExpired { at: root.expires })
    );
    let mut third = osaka.root(3, Some(osaka.second(root, &[]).digest()));
    third.root = next(&osaka).root;
    world.log(&osaka.second(third, &[&c, &d]));
    assert_eq!(world.sequence("osaka.example"), 1);
}

#[test]
fn withdrawal_is_for_ever_and_takes_root_or_recovery_keys() {
    let osaka = osaka();
    let [a, b] = osaka.root_keys(1);
    for (keys, counts) in [
        (vec![&osaka.online()], false),
        (vec![&key(2)], false),
        (vec![&a], false),
        (vec![&a, &b], true),
        (vec![&osaka.recovery()], true),
    ] {
        let mut world = World::with(&[&osaka]);
        world.log(&osaka.withdrawal(&keys));
        assert_eq!(world.reason("osaka.example").is_some(), counts);
    }
    let mut world = World::with(&[&osaka]);
    world.log(&osaka.withdrawal(&[&osaka.recovery()]));
    world.log(&osaka.bundle(2));
    assert!(world.refusal().unwrap().contains("withdrawn"));
    world.log(&osaka.admission_at(AdmissionStatus::Admitted, NOW));
    let why = "the machine room burnt".to_owned();
    assert_eq!(
        world.reason("osaka.example"),
        Some(Reason::Withdrawn { why })
    );
}
