//! Rules 1, 4 and 5 about the log itself: whose checkpoints, which witnesses, how fresh.

use time::{Duration, OffsetDateTime};

use super::world::{NOW, Site, WITNESSES, World, key, td};
use crate::{CheckpointError, SignedCheckpoint, UpdateError};

fn world() -> World {
    World::with(&[&Site::new("osaka.example", 100)])
}

/// Whether a new site takes this as witnessed.
fn counts(world: &World, checkpoint: &SignedCheckpoint) -> bool {
    let text = checkpoint.to_text();
    let view = world
        .read(&world.view(), Some(text.as_bytes()), None)
        .unwrap();
    view.basis().is_some()
}

fn signed(world: &World) -> SignedCheckpoint {
    SignedCheckpoint::parse(&world.checkpoint(0), &world.federation).unwrap()
}

#[test]
fn the_form_of_the_published_example_is_read() {
    // C2SP tlog-cosignature has it without the keys: read, and believed by nobody.
    let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n— witness.example.com/w1 jWbPPwAAAABkGFDLEZMHwSRaJNiIDoe9DYn/zXcrtPHeolMI5OWXEhZCB9dlrDJsX3b2oyin1nPZqhf5nNo0xUe+mbIUBkBIfZ+qnA==\n";
    let mut federation = (*world().federation).clone();
    let other = SignedCheckpoint::parse(text.as_bytes(), &federation).unwrap_err();
    assert!(matches!(other, CheckpointError::Origin { .. }), "{other}");
    federation.origin = "example.com/behind-the-sofa".to_owned();
    let unsigned = SignedCheckpoint::parse(text.as_bytes(), &federation);
    assert_eq!(unsigned, Err(CheckpointError::Unsigned));
}

#[test]
fn a_checkpoint_is_of_this_log_and_signed_by_its_key() {
    let world = world();
    let origin = &world.federation.origin;
    let root = signed(&world).root();
    let parse = |checkpoint: SignedCheckpoint| {
        SignedCheckpoint::parse(checkpoint.to_text().as_bytes(), &world.federation)
    };
    assert!(parse(SignedCheckpoint::sign(origin, root, &key(1))).is_ok());
    assert_eq!(
        parse(SignedCheckpoint::sign(origin, root, &key(10))),
        Err(CheckpointError::Unsigned)
    );
    assert!(matches!(
        parse(SignedCheckpoint::sign("other.example/log", root, &key(1))),
        Err(CheckpointError::Origin { .. })
    ));
    let text = signed(&world).to_text();
    for (from, to) in [
        ("\n3\n", "\n4\n"),
        ("\n3\n", "\n03\n"),
        ("— ", "- "),
        ("\n\n", "\n"),
    ] {
        let changed = text.replacen(from, to, 1);
        let read = SignedCheckpoint::parse(changed.as_bytes(), &world.federation);
        assert!(read.is_err(), "{changed}");
    }
}

#[test]
fn a_quorum_is_three_different_witnesses_of_the_file() {
    let world = world();
    for (count, enough) in [(0, false), (2, false), (3, true), (4, true)] {
        let note = world.checkpoint(count);
        let checkpoint = SignedCheckpoint::parse(&note, &world.federation).unwrap();
        assert_eq!(counts(&world, &checkpoint), enough, "{count}");
    }
    let with_two = || {
        let mut checkpoint = signed(&world);
        checkpoint.cosign(&td(WITNESSES[0]), &key(10), NOW);
        checkpoint.cosign(&td(WITNESSES[1]), &key(11), NOW);
        checkpoint
    };
    // The registry, the registrar, a stranger, and a witness in another's name.
    for (name, seed) in [
        (WITNESSES[2], 1),
        (WITNESSES[2], 2),
        (WITNESSES[2], 77),
        (WITNESSES[2], 10),
        ("stranger.example", 77),
        (WITNESSES[0], 10),
    ] {
        let mut checkpoint = with_two();
        checkpoint.cosign(&td(name), &key(seed), NOW);
        assert!(!counts(&world, &checkpoint), "{name} with key {seed}");
    }
    let mut checkpoint = with_two();
    checkpoint.cosign(&td(WITNESSES[2]), &key(12), NOW);
    assert!(counts(&world, &checkpoint));
}

#[test]
fn a_cosignature_is_for_one_tree_and_one_time() {
    let mut world = world();
    let old = world.checkpoint(4);
    world.log(&Site::new("osaka.example", 100).bundle(2));
    // The witnesses' lines of the old tree under the new one.
    let old_text = String::from_utf8(old).unwrap();
    let mut text = signed(&world).to_text();
    for line in old_text
        .lines()
        .filter(|line| line.starts_with("— "))
        .skip(1)
    {
        text.push_str(line);
        text.push('\n');
    }
    let mixed = SignedCheckpoint::parse(text.as_bytes(), &world.federation).unwrap();
    assert!(mixed.cosigned_by(&world.federation, NOW).is_empty());
    assert!(!counts(&world, &mixed));
}

#[test]
fn a_stale_quorum_is_not_taken_and_what_was_taken_stays() {
    let mut world = world();
    let view = world.sync(&world.view()).unwrap();
    world.log(&Site::new("osaka.example", 100).bundle(2));
    let stale = world.checkpoint_at(4, NOW - Duration::hours(25));
    let after = world.read(&view, Some(&stale), None).unwrap();
    let basis = after.basis().unwrap();
    assert_eq!(
        basis.checkpoint.root().size,
        3,
        "the last good state is kept"
    );
    assert_eq!(after.size(), 4, "and what was seen is remembered");
    // Two witnesses that are up to date do not make three.
    let mut note = SignedCheckpoint::parse(&stale, &world.federation).unwrap();
    note.cosign(&td(WITNESSES[0]), &key(10), NOW);
    note.cosign(&td(WITNESSES[1]), &key(11), NOW);
    assert_eq!(
        note.witnessed_at(&world.federation, NOW),
        Some(NOW - Duration::hours(25))
    );
    note.cosign(&td(WITNESSES[2]), &key(12), NOW);
    let text = note.to_text();
    let fresh = world.read(&after, Some(text.as_bytes()), None).unwrap();
    assert_eq!(fresh.basis().unwrap().checkpoint.root().size, 4);
}

#[test]
fn a_witness_whose_clock_runs_ahead_does_not_count() {
    let world = world();
    let mut checkpoint = signed(&world);
    for (seed, name) in (10..).zip(WITNESSES) {
        checkpoint.cosign(&td(name), &key(seed), NOW + Duration::hours(1));
    }
    assert_eq!(checkpoint.witnessed_at(&world.federation, NOW), None);
}

#[test]
fn cosignatures_of_different_copies_add_up() {
    let world = world();
    let with = |which: &[usize], at: OffsetDateTime| {
        let mut checkpoint = signed(&world);
        for index in which {
            let seed = 10 + u8::try_from(*index).unwrap();
            checkpoint.cosign(&td(WITNESSES[*index]), &key(seed), at);
        }
        checkpoint
    };
    let mut here = with(&[0, 1], NOW - Duration::hours(1));
    assert!(here.merge(&with(&[1, 2], NOW), &world.federation, NOW));
    assert!(!here.merge(&with(&[1, 2], NOW), &world.federation, NOW));
    let times = here.cosigned_by(&world.federation, NOW);
    assert_eq!(times.len(), 3);
    assert_eq!(times[&td(WITNESSES[1])], NOW);
    // A site that has one copy and is offered the other has a quorum.
    let view = world.view();
    let first = with(&[0, 1], NOW).to_text();
    let view = world.read(&view, Some(first.as_bytes()), None).unwrap();
    assert!(view.basis().is_none());
}

#[test]
fn a_log_far_ahead_of_its_witnesses_is_not_followed() {
    let mut world = World::new();
    for index in 0..2_001 {
        world.entries.push(format!("{index}").into_bytes());
    }
    let pending = world.checkpoint(0);
    let error = world.read(&world.view(), None, Some(&pending)).unwrap_err();
    assert_eq!(error, UpdateError::Unwitnessed(2_001));
    assert!(world.sync(&world.view()).is_ok(), "with witnesses it is");
}

#[test]
fn an_empty_log_has_one_root() {
    let world = World::new();
    assert!(world.sync(&world.view()).is_ok());
    let mut root = signed(&world).root();
    root.hash = tlog_tiles::record_hash(b"something");
    let odd = SignedCheckpoint::sign(&world.federation.origin, root, &key(1)).to_text();
    let error = world
        .read(&world.view(), Some(odd.as_bytes()), None)
        .unwrap_err();
    assert_eq!(error, UpdateError::Entries { size: 0 });
}
