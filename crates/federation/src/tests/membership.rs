//! Rules 1 and 2: what must hold for a bundle to count, and what a site decides alone.

use time::Duration;

use super::world::{NOW, Site, World, sign, td};
use crate::{AdmissionStatus, Endorsement, Local, Reason, Statement, members};

fn sites() -> (Site, Site) {
    (
        Site::new("osaka.example", 100),
        Site::new("tokyo.example", 150),
    )
}

#[test]
fn a_member_counts_with_its_bundle_gateway_services_and_end() {
    let (osaka, tokyo) = sites();
    let world = World::with(&[&osaka, &tokyo]);
    let members = world.members();
    let member = &members[&td("osaka.example")];
    assert_eq!(member.genesis, osaka.identity());
    let verified = member.standing.as_ref().unwrap();
    assert_eq!(verified.bundle.trust_domain, td("osaka.example"));
    assert_eq!(verified.bundle.sequence, Some(1));
    assert_eq!(verified.gateways, ["gw.osaka.example:8443"]);
    assert_eq!(verified.services["broker"], "kafka");
    assert_eq!(verified.expires, NOW + Duration::days(7));
    assert_eq!(members.len(), 2);
}

#[test]
fn without_each_single_thing_the_reason_is_named() {
    let (osaka, _) = sites();
    let admitted = osaka.admission(AdmissionStatus::Admitted);
    let reason = |entries: &[&crate::Envelope]| {
        let mut world = World::new();
        entries.iter().for_each(|entry| world.log(entry));
        world.reason("osaka.example")
    };
    let genesis = osaka.identity();
    assert_eq!(reason(&[&admitted]), Some(Reason::NoRoot { genesis }));
    assert_eq!(
        reason(&[&admitted, &osaka.genesis()]),
        Some(Reason::NoBundle)
    );
    assert_eq!(
        reason(&[&admitted, &osaka.genesis(), &osaka.bundle(1)]),
        None
    );
    // The order in which the first three come does not matter to a bundle's reader, except that
    // a bundle needs its root.
    assert_eq!(
        reason(&[&osaka.genesis(), &osaka.bundle(1), &admitted]),
        None
    );
    let mut world = World::new();
    world.log(&osaka.genesis());
    world.log(&osaka.bundle(1));
    assert!(world.members().is_empty(), "nobody has admitted it");
}

#[test]
fn a_bundle_counts_until_it_ends_and_only_its_own_site_falls() {
    let (osaka, tokyo) = sites();
    let mut world = World::with(&[&osaka, &tokyo]);
    let mut longer = tokyo.statement(2);
    longer.expires = longer.issued + Duration::days(13);
    world.log(&sign(Statement::Bundle(longer), &[&tokyo.online()]));
    world.now = NOW + Duration::days(7);
    let at = NOW + Duration::days(7);
    assert_eq!(
        world.reason("osaka.example"),
        Some(Reason::BundleExpired { at })
    );
    assert_eq!(world.reason("tokyo.example"), None);
}

#[test]
fn a_statement_from_the_future_waits() {
    let (osaka, _) = sites();
    let mut world = World::with(&[&osaka]);
    let mut early = osaka.statement(2);
    early.issued = NOW + Duration::hours(3);
    let at = early.issued;
    world.log(&sign(Statement::Bundle(early), &[&osaka.online()]));
    assert_eq!(
        world.reason("osaka.example"),
        Some(Reason::FromTheFuture { at })
    );
}

#[test]
fn suspension_removal_and_the_end_of_an_admission_take_a_member_out_and_back() {
    let (osaka, _) = sites();
    let mut world = World::with(&[&osaka]);
    let said = |minutes| NOW - Duration::minutes(minutes);
    world.log(&osaka.admission_at(AdmissionStatus::Suspended, said(9)));
    assert_eq!(world.reason("osaka.example"), Some(Reason::Suspended));
    world.log(&osaka.admission_at(AdmissionStatus::Admitted, said(8)));
    assert_eq!(world.reason("osaka.example"), None);
    world.log(&osaka.admission_at(AdmissionStatus::Removed, said(7)));
    assert_eq!(world.reason("osaka.example"), Some(Reason::Removed));
    let mut world = World::with(&[&osaka]);
    world.now = NOW + Duration::days(366);
    let at = NOW + Duration::days(365);
    assert_eq!(
        world.reason("osaka.example"),
        Some(Reason::AdmissionExpired { at })
    );
}

#[test]
fn a_local_deny_wins_and_a_local_allow_replaces_the_registrar() {
    let (osaka, tokyo) = sites();
    let mut world = World::with(&[&osaka, &tokyo]);
    world.log(&tokyo.admission_at(AdmissionStatus::Removed, NOW));
    let view = world.sync(&world.view()).unwrap();
    let reasons = |local: Local| {
        let members = members(view.state(), &local, NOW);
        let reason = |name| members.get(&td(name)).map(|m| m.standing.clone().err());
        (reason("osaka.example"), reason("tokyo.example"))
    };
    let deny = [td("osaka.example")].into();
    let local = Local { deny, allow: None };
    assert_eq!(
        reasons(local),
        (Some(Some(Reason::DeniedHere)), Some(Some(Reason::Removed)))
    );
    let allow = Some([(td("tokyo.example"), tokyo.identity())].into());
    let local = Local {
        allow,
        ..Local::default()
    };
    assert_eq!(reasons(local), (None, Some(None)));
    let allow = Some([(td("tokyo.example"), osaka.identity())].into());
    let local = Local {
        allow,
        ..Local::default()
    };
    let owner = td("osaka.example");
    assert_eq!(reasons(local).1, Some(Some(Reason::Relabelled { owner })));
}

#[test]
fn what_reduces_trust_acts_before_witnesses_have_seen_it_and_nothing_else_does() {
    let (osaka, tokyo) = sites();
    let mut world = World::with(&[&osaka, &tokyo]);
    let seen = world.sync(&world.view()).unwrap();
    let witnessed = world.checkpoint(4);
    world.log(&osaka.withdrawal(&[&osaka.recovery()]));
    world.log(&tokyo.admission_at(AdmissionStatus::Suspended, NOW));
    world.log(&tokyo.bundle(2));
    let ahead = world.checkpoint(1);
    let view = world.read(&seen, Some(&witnessed), Some(&ahead)).unwrap();
    let now = members(view.state(), &Local::default(), NOW);
    assert!(matches!(
        now[&td("osaka.example")].standing,
        Err(Reason::Withdrawn { .. })
    ));
    assert_eq!(now[&td("tokyo.example")].standing, Err(Reason::Suspended));
    let known = view.state().chain(&tokyo.identity()).unwrap();
    assert_eq!(known.bundle.as_ref().unwrap().statement.sequence, 1);
    // Once witnesses have seen it, all of it counts.
    let view = world.sync(&view).unwrap();
    let known = view.state().chain(&tokyo.identity()).unwrap();
    assert_eq!(known.bundle.as_ref().unwrap().statement.sequence, 2);
}

#[test]
fn what_reduces_trust_acts_on_sight_however_it_came() {
    let (osaka, tokyo) = sites();
    let world = World::with(&[&osaka, &tokyo]);
    let mut view = world.sync(&world.view()).unwrap();
    assert_eq!(view.import_removal(&osaka.bundle(2)), Ok(false));
    assert!(
        view.import_removal(&osaka.withdrawal(&[&tokyo.recovery()]))
            .is_err()
    );
    assert_eq!(
        view.import_removal(&osaka.withdrawal(&[&osaka.recovery()])),
        Ok(true)
    );
    let suspended = tokyo.admission_at(AdmissionStatus::Suspended, NOW);
    assert_eq!(view.import_removal(&suspended), Ok(true));
    let now = members(view.state(), &Local::default(), NOW);
    assert!(now.values().all(|member| member.standing.is_err()));
    // An old suspension does not undo a newer admission.
    let mut world = World::with(&[&osaka, &tokyo]);
    let said = |minutes| NOW - Duration::minutes(minutes);
    world.log(&tokyo.admission_at(AdmissionStatus::Admitted, said(1)));
    let mut view = world.sync(&world.view()).unwrap();
    let old = tokyo.admission_at(AdmissionStatus::Suspended, said(2));
    assert!(view.import_removal(&old).is_err());
}

#[test]
fn endorsements_are_told_and_decide_nothing() {
    let (osaka, tokyo) = sites();
    let mut world = World::with(&[&osaka]);
    let endorse = |by: &crate::SigningKey| {
        let endorsement = Endorsement {
            by: osaka.identity(),
            trust_domain: td("tokyo.example"),
            genesis: tokyo.identity(),
        };
        sign(Statement::Endorsement(endorsement), &[by])
    };
    world.log(&endorse(&tokyo.online()));
    assert!(world.refusal().unwrap().contains("online key"));
    world.log(&endorse(&osaka.online()));
    world.log(&tokyo.genesis());
    world.log(&tokyo.bundle(1));
    assert!(!world.members().contains_key(&td("tokyo.example")));
    world.log(&tokyo.admission(AdmissionStatus::Admitted));
    let members = world.members();
    let by: Vec<_> = members[&td("tokyo.example")].endorsed_by.iter().collect();
    assert_eq!(by, [&td("osaka.example")]);
}
