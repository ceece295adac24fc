//! What a registry, a registrar, a mirror and the thief of a key can try, and what comes of it.

use time::Duration;

use super::world::{NOW, Site, World, key, sign, td};
use crate::{
    Admission, AdmissionStatus, Envelope, Local, Reason, SignedCheckpoint, Statement, UpdateError,
    members,
};

fn osaka() -> Site {
    Site::new("osaka.example", 100)
}

fn evil() -> Site {
    Site::new("evil.example", 180)
}

#[test]
fn a_registry_that_forges_a_bundle_changes_nothing_and_is_told_of() {
    let (osaka, evil) = (osaka(), evil());
    let mut world = World::with(&[&osaka, &evil]);
    for forger in [key(1), key(2), key(10), evil.online()] {
        let mut forged = osaka.statement(2);
        forged.gateways = vec!["evil.example:8443".to_owned()];
        world.log(&sign(Statement::Bundle(forged), &[&forger]));
        assert!(world.refusal().unwrap().contains("online key of the site"));
    }
    let member = &world.members()[&td("osaka.example")];
    let verified = member.standing.as_ref().unwrap();
    assert_eq!(verified.gateways, ["gw.osaka.example:8443"]);
    let view = world.sync(&world.view()).unwrap();
    assert_eq!(view.state().refused_in_all(), 4);
    let refused = view.state().refused().last().unwrap();
    assert_eq!(refused.trust_domain, Some(td("osaka.example")));
}

#[test]
fn a_bundle_cannot_be_given_another_name() {
    // The hub of a federation that signs keys without names could do this.
    let (osaka, evil) = (osaka(), evil());
    let mut world = World::with(&[&osaka, &evil]);
    let mut relabelled = evil.statement(2);
    relabelled.trust_domain = td("osaka.example");
    world.log(&sign(
        Statement::Bundle(relabelled.clone()),
        &[&evil.online()],
    ));
    assert!(world.refusal().unwrap().contains("belongs to evil.example"));
    relabelled.genesis = osaka.identity();
    world.log(&sign(Statement::Bundle(relabelled), &[&evil.online()]));
    assert!(world.refusal().unwrap().contains("online key"));
    assert_eq!(world.sequence("osaka.example"), 1);
}

#[test]
fn an_old_bundle_that_is_logged_again_is_refused() {
    let osaka = osaka();
    let mut world = World::with(&[&osaka]);
    world.log(&osaka.bundle(7));
    for old in [1, 6, 7] {
        world.log(&osaka.bundle(old));
        let refusal = world.refusal().unwrap();
        assert!(
            refusal.contains(&format!("{old} does not follow 7")),
            "{refusal}"
        );
    }
    assert_eq!(world.sequence("osaka.example"), 7);
}

#[test]
fn the_spiffe_bundle_inside_never_goes_back_but_under_a_new_root() {
    let osaka = osaka();
    let ([a, b], [c, d]) = (osaka.root_keys(1), osaka.root_keys(2));
    let mut world = World::with(&[&osaka]);
    world.log(&osaka.bundle(5));
    let mut old_keys = osaka.statement(6);
    old_keys.bundle["spiffe_sequence"] = 4.into();
    world.log(&sign(
        Statement::Bundle(old_keys.clone()),
        &[&osaka.online()],
    ));
    assert!(world.refusal().unwrap().contains("spiffe_sequence"));
    let other = Site::new("osaka.example", 100).statement(6).bundle;
    old_keys.bundle = other;
    old_keys.bundle["spiffe_sequence"] = 5.into();
    world.log(&sign(
        Statement::Bundle(old_keys.clone()),
        &[&osaka.online()],
    ));
    assert!(
        world.refusal().unwrap().contains("spiffe_sequence"),
        "one number, two contents"
    );
    old_keys.bundle["keys"] = serde_json::json!([]);
    world.log(&sign(
        Statement::Bundle(old_keys.clone()),
        &[&osaka.online()],
    ));
    assert!(
        world.refusal().unwrap().contains("spiffe_sequence"),
        "an empty bundle is one more content of the number"
    );
    let root = osaka.root(2, Some(osaka.identity()));
    world.log(&osaka.second(root, &[&a, &b, &c, &d]));
    let mut anew = osaka.statement(6);
    anew.bundle["spiffe_sequence"] = 1.into();
    anew.root_version = 2;
    world.log(&sign(Statement::Bundle(anew), &[&osaka.online()]));
    assert_eq!(
        world.refusal(),
        None,
        "the site lost its CA and says so with its root keys"
    );
}

#[test]
fn a_thief_of_the_online_key_cannot_use_up_the_numbers() {
    let osaka = osaka();
    let mut world = World::with(&[&osaka]);
    for far in [u64::MAX, 1_000_002] {
        world.log(&osaka.bundle(far));
        assert!(world.refusal().unwrap().contains("does not follow 1"));
    }
    world.log(&osaka.bundle(1_000_001));
    assert_eq!(world.refusal(), None);
}

#[test]
fn a_registrar_cannot_put_another_identity_in_a_sites_place() {
    let (osaka, impostor) = (osaka(), Site::new("osaka.example", 180));
    let mut world = World::with(&[&osaka]);
    world.log(&impostor.genesis());
    world.log(&impostor.admission_at(AdmissionStatus::Admitted, NOW));
    let refusal = world.refusal().unwrap();
    assert!(refusal.contains("belongs to the identity"), "{refusal}");
    world.log(&impostor.bundle(2));
    assert_eq!(
        world.members()[&td("osaka.example")].genesis,
        osaka.identity()
    );
    assert_eq!(world.sequence("osaka.example"), 1);
    // Removing it first does not help either: it keeps the site out, and nobody else gets in.
    world.log(&osaka.admission_at(AdmissionStatus::Removed, NOW));
    world.log(&impostor.admission_at(AdmissionStatus::Admitted, NOW + Duration::SECOND));
    assert!(world.refusal().unwrap().contains("belongs to the identity"));
    assert_eq!(world.reason("osaka.example"), Some(Reason::Removed));
    // Only the owner frees the name.
    world.log(&osaka.withdrawal(&[&osaka.recovery()]));
    world.log(&impostor.admission_at(AdmissionStatus::Admitted, NOW + Duration::SECOND));
    assert_eq!(
        world.members()[&td("osaka.example")].genesis,
        impostor.identity()
    );
}

#[test]
fn an_admission_is_the_registrars_is_newer_and_names_its_own() {
    let (osaka, evil) = (osaka(), evil());
    let mut world = World::with(&[&osaka, &evil]);
    world.log(&osaka.admission_at(AdmissionStatus::Suspended, NOW));
    // The old "admitted" once more, to undo the suspension.
    world.log(&osaka.admission(AdmissionStatus::Admitted));
    assert!(world.refusal().unwrap().contains("something later"));
    assert_eq!(world.reason("osaka.example"), Some(Reason::Suspended));
    let admission = |signer: &crate::SigningKey, name: &str, genesis, scope: Vec<String>| {
        let admission = Admission {
            trust_domain: td(name),
            genesis,
            status: AdmissionStatus::Admitted,
            scope,
            issued: NOW + Duration::SECOND,
            expires: NOW + Duration::days(1),
        };
        sign(Statement::Admission(admission), &[signer])
    };
    let genesis = osaka.identity();
    world.log(&admission(&key(1), "osaka.example", genesis, vec![]));
    assert!(world.refusal().unwrap().contains("registrar"));
    world.log(&admission(&key(2), "tokyo.example", genesis, vec![]));
    assert!(
        world
            .refusal()
            .unwrap()
            .contains("belongs to osaka.example")
    );
    world.log(&admission(
        &key(2),
        "osaka.example",
        genesis,
        vec!["tokyo.example".into()],
    ));
    assert!(world.refusal().unwrap().contains("scope"));
    world.log(&admission(
        &key(3),
        "osaka.example",
        genesis,
        vec!["example".into()],
    ));
    assert_eq!(world.refusal(), None, "either of the registrar's keys");
}

#[test]
fn an_older_tree_is_no_step_back() {
    let osaka = osaka();
    let mut world = World::with(&[&osaka]);
    let (old, old_entries) = (world.checkpoint(4), world.entries.clone());
    world.log(&osaka.bundle(2));
    world.log(&osaka.withdrawal(&[&osaka.recovery()]));
    let view = world.sync(&world.view()).unwrap();
    world.entries = old_entries;
    let again = world.read(&view, Some(&old), None).unwrap();
    assert_eq!(again.size(), 5);
    let now = members(again.state(), &Local::default(), NOW);
    assert!(matches!(
        now[&td("osaka.example")].standing,
        Err(Reason::Withdrawn { .. })
    ));
}

#[test]
fn two_histories_are_proof_and_stop_everything() {
    let (osaka, evil) = (osaka(), evil());
    let mut honest = World::with(&[&osaka]);
    let mut split = World::with(&[&osaka]);
    honest.log(&osaka.bundle(2));
    split.log(&evil.genesis());
    let view = honest.sync(&honest.view()).unwrap();
    // Of the same size, whatever its witnesses say.
    let Err(UpdateError::Fork(fork)) = split.read(&view, Some(&split.checkpoint(4)), None) else {
        panic!("another history was taken");
    };
    assert_eq!(fork.ours.as_bytes(), honest.checkpoint(4));
    assert_eq!(fork.theirs.as_bytes(), split.checkpoint(4));
    // Somebody else's checkpoint alone is proof, whatever its witnesses.
    let theirs = SignedCheckpoint::parse(&split.checkpoint(0), &split.federation).unwrap();
    assert!(matches!(view.compare(&theirs), Err(UpdateError::Fork(_))));
    let ours = SignedCheckpoint::parse(&honest.checkpoint(0), &honest.federation).unwrap();
    assert_eq!(view.compare(&ours), Ok(()));
    // Larger than what was seen: the entries do not add up, and a replay from the beginning
    // proves why.
    split.log(&evil.bundle(1));
    let error = split
        .read(&view, Some(&split.checkpoint(4)), None)
        .unwrap_err();
    assert_eq!(error, UpdateError::Entries { size: 5 });
    let theirs = split.sync(&split.view()).unwrap();
    let fork = view.fork_with(&theirs).unwrap();
    assert_eq!(fork.theirs.as_bytes(), split.checkpoint(4));
    assert_eq!(view.fork_with(&view), None);
    // In the unwitnessed part too.
    let error = split
        .read(&view, None, Some(&split.checkpoint(0)))
        .unwrap_err();
    assert_eq!(error, UpdateError::Entries { size: 5 });
}

#[test]
fn a_mirror_that_changes_drops_or_invents_entries_is_refused_whole() {
    let osaka = osaka();
    let mut world = World::with(&[&osaka]);
    let checkpoint = world.checkpoint(4);
    let view = world.view();
    let good = world.entries.clone();
    world.entries[1] = evil().genesis().to_bytes();
    let error = world.read(&view, Some(&checkpoint), None).unwrap_err();
    assert_eq!(error, UpdateError::Entries { size: 3 });
    world.entries = good[..2].to_vec();
    let error = world.read(&view, Some(&checkpoint), None).unwrap_err();
    assert_eq!(error, UpdateError::Short { have: 2, size: 3 });
    assert_eq!(view.size(), 0, "nothing has changed");
    world.entries = good;
    assert!(world.read(&view, Some(&checkpoint), None).is_ok());
}

#[test]
fn rubbish_in_the_log_stops_nobody() {
    let osaka = osaka();
    let mut world = World::new();
    let long = vec![b'x'; 65_535];
    for rubbish in [&b""[..], b"{}", b"\xff\xfe", &long] {
        world.entries.push(rubbish.to_vec());
    }
    world.log(&osaka.genesis());
    world.log(&osaka.admission(AdmissionStatus::Admitted));
    world.log(&osaka.bundle(1));
    assert_eq!(world.sequence("osaka.example"), 1);
    assert!(Envelope::parse(&long).is_err());
}
