//! Records of a site, for a peer that knows its identity and reads no log.

use time::{Duration, OffsetDateTime};

use super::world::{NOW, Site, key, sign, td};
use crate::{
    BundleStatement, Envelope, MAX_RECORD_BYTES, Pin, Reason, RecordError, SigningKey, SiteNews,
    SiteRecord, SiteRefusal, SiteRoot, SiteSeen, Statement,
};

fn osaka() -> Site {
    Site::new("osaka.example", 100)
}

fn pin(site: &Site) -> Pin {
    Pin {
        trust_domain: td(site.name),
        identity: site.identity(),
        at_least: 1,
    }
}

fn record(statements: &[Envelope]) -> SiteRecord {
    let record = SiteRecord::new(statements.iter().cloned()).unwrap();
    let read = SiteRecord::parse(&record.to_bytes().unwrap()).unwrap();
    assert_eq!(read, record);
    read
}

/// Version 2, with another online key.
fn second(site: &Site, change: impl FnOnce(&mut SiteRoot)) -> Envelope {
    let ([a, b], [c, d]) = (site.root_keys(1), site.root_keys(2));
    let mut root = site.root(2, Some(site.identity()));
    root.online_keys = vec![key(99).public()];
    change(&mut root);
    site.second(root, &[&a, &b, &c, &d])
}

/// A bundle statement under version 2.
fn under_second(site: &Site, sequence: u64) -> Envelope {
    let mut statement = site.statement(sequence);
    statement.root_version = 2;
    sign(Statement::Bundle(statement), &[&key(99)])
}

fn verify(
    statements: &[Envelope],
    site: &Site,
    before: Option<&SiteNews>,
    now: OffsetDateTime,
) -> Result<SiteNews, SiteRefusal> {
    let bundle = before.and_then(|before| before.standing.as_ref().ok());
    let bundle = bundle.map(|verified| &verified.bundle);
    let seen = before.map(|before| &before.seen);
    record(statements).verify(&pin(site), seen, bundle, now)
}

fn first(site: &Site, sequence: u64) -> SiteNews {
    let statements = [site.genesis(), site.bundle(sequence)];
    let news = verify(&statements, site, None, NOW).unwrap();
    assert_eq!(news.standing.as_ref().unwrap().sequence, sequence);
    news
}

#[test]
fn a_site_is_known_by_its_genesis_whatever_its_sequence() {
    let osaka = osaka();
    let news = first(&osaka, 5_000_000);
    let seen = (news.seen.root_version, news.seen.sequence);
    assert_eq!(seen, (1, 5_000_000));
    assert_eq!(news.standing.unwrap().bundle.trust_domain, td(osaka.name));
}

#[test]
fn another_chain_is_refused_whoever_it_claims_to_be() {
    let (osaka, impostor) = (osaka(), Site::new("osaka.example", 140));
    let offered = [impostor.genesis(), impostor.bundle(1)];
    let refused = verify(&offered, &osaka, None, NOW).unwrap_err();
    let (expected, found) = (osaka.identity(), impostor.identity());
    assert_eq!(refused, SiteRefusal::OtherIdentity { expected, found });
    // The pinned genesis, and what another site says.
    let offered = [osaka.genesis(), impostor.bundle(1)];
    let refused = verify(&offered, &osaka, None, NOW).unwrap_err();
    let identity = impostor.identity();
    let name = td("osaka.example");
    assert_eq!(refused, SiteRefusal::ForeignStatement { name, identity });
    // The same, and it claims the pinned identity.
    let forged = impostor.statement(1);
    let genesis = osaka.identity();
    let forged = BundleStatement { genesis, ..forged };
    let forged = sign(Statement::Bundle(forged), &[&impostor.online()]);
    let refused = verify(&[osaka.genesis(), forged], &osaka, None, NOW).unwrap_err();
    assert_eq!(refused.label(), "statement");
}

#[test]
fn an_identity_of_another_trust_domain_is_refused() {
    let osaka = osaka();
    let statements = record(&[osaka.genesis(), osaka.bundle(1)]);
    let pin = Pin {
        trust_domain: td("tokyo.example"),
        ..pin(&osaka)
    };
    let refused = statements.verify(&pin, None, None, NOW).unwrap_err();
    let (owner, expected) = (td("osaka.example"), td("tokyo.example"));
    assert_eq!(refused, SiteRefusal::ForeignDomain { expected, owner });
    // Nor can it say anything about that one.
    let mut statement = osaka.statement(1);
    statement.trust_domain = td("tokyo.example");
    let statement = sign(Statement::Bundle(statement), &[&osaka.online()]);
    let refused = verify(&[osaka.genesis(), statement], &osaka, None, NOW).unwrap_err();
    assert_eq!(refused.label(), "statement");
}

#[test]
fn a_chain_that_breaks_is_refused_and_names_the_version() {
    let osaka = osaka();
    let [c, d] = osaka.root_keys(2);
    let next = || osaka.root(2, Some(osaka.identity()));
    let unsigned = osaka.second(next(), &[&c, &d]);
    let mut skipped = next();
    skipped.version = 3;
    let [a, b] = osaka.root_keys(1);
    let skipped = osaka.second(skipped, &[&a, &b, &c, &d]);
    for (root, version) in [(unsigned, 2), (skipped, 3)] {
        let offered = [osaka.genesis(), root, under_second(&osaka, 1)];
        let refused = verify(&offered, &osaka, None, NOW).unwrap_err();
        assert_eq!(refused.label(), "root_chain", "{refused}");
        let named = format!("version {version} ");
        assert!(refused.to_string().contains(&named), "{refused}");
    }
    let offered = [second(&osaka, |_| ()), under_second(&osaka, 1)];
    let refused = verify(&offered, &osaka, None, NOW).unwrap_err();
    assert_eq!(refused.label(), "identity", "{refused}");
}

#[test]
fn the_version_of_the_site_root_never_falls_nor_changes() {
    let osaka = osaka();
    let one = [osaka.genesis(), osaka.bundle(8)];
    let two = [
        osaka.genesis(),
        second(&osaka, |_| ()),
        under_second(&osaka, 2),
    ];
    // A new version begins its sequence again: the holder of the old online key cannot use it up.
    let news = verify(&two, &osaka, Some(&first(&osaka, 7)), NOW).unwrap();
    assert_eq!((news.seen.root_version, news.seen.sequence), (2, 2));
    let refused = verify(&one, &osaka, Some(&news), NOW).unwrap_err();
    let (known, offered) = (2, 1);
    assert_eq!(refused, SiteRefusal::RootVersionFell { known, offered });
    let rival = second(&osaka, |root| root.expires += Duration::days(1));
    let rival = [osaka.genesis(), rival, under_second(&osaka, 3)];
    let refused = verify(&rival, &osaka, Some(&news), NOW).unwrap_err();
    assert_eq!(refused, SiteRefusal::Forked { version: 2 });
    // Nothing was seen before, and the operator knows of version 2.
    let pin = Pin {
        at_least: 2,
        ..pin(&osaka)
    };
    let refused = record(&one).verify(&pin, None, None, NOW).unwrap_err();
    let (offered, at_least) = (1, 2);
    assert_eq!(refused, SiteRefusal::Behind { offered, at_least });
    assert!(record(&two).verify(&pin, None, None, NOW).is_ok());
}

#[test]
fn an_older_statement_is_refused_after_a_restart_too() {
    let osaka = osaka();
    let news = first(&osaka, 7);
    // As the store gives it back.
    let kept = serde_json::to_string(&news.seen).unwrap();
    let seen: SiteSeen = serde_json::from_str(&kept).unwrap();
    assert_eq!(seen, news.seen);
    let again = |sequence| {
        let offered = record(&[osaka.genesis(), osaka.bundle(sequence)]);
        offered.verify(&pin(&osaka), Some(&seen), None, NOW)
    };
    assert_eq!(again(7).unwrap(), news);
    let (known, offered) = (7, 6);
    assert_eq!(
        again(6).unwrap_err(),
        SiteRefusal::SequenceFell { known, offered }
    );
    assert_eq!(again(8).unwrap().seen.sequence, 8);
    let mut other = osaka.statement(7);
    other.services.clear();
    let other = sign(Statement::Bundle(other), &[&osaka.online()]);
    let refused = verify(&[osaka.genesis(), other], &osaka, Some(&news), NOW).unwrap_err();
    assert_eq!(refused, SiteRefusal::SameSequence { sequence: 7 });
    // A higher number around an older bundle.
    let mut older = osaka.statement(8);
    older.bundle = osaka.statement(6).bundle;
    let older = sign(Statement::Bundle(older), &[&osaka.online()]);
    let refused = verify(&[osaka.genesis(), older], &osaka, Some(&news), NOW).unwrap_err();
    assert_eq!(refused.label(), "statement", "{refused}");
}

#[test]
fn a_replaced_online_key_signs_nothing_any_more() {
    let osaka = osaka();
    let root = second(&osaka, |_| ());
    let mut stolen = osaka.statement(9);
    stolen.root_version = 2;
    let stolen = sign(Statement::Bundle(stolen), &[&osaka.online()]);
    for statement in [osaka.bundle(9), stolen] {
        let offered = [osaka.genesis(), root.clone(), statement];
        let refused = verify(&offered, &osaka, None, NOW).unwrap_err();
        assert_eq!(refused.label(), "statement", "{refused}");
    }
}

#[test]
fn an_expired_site_root_vouches_for_its_successor_only() {
    let osaka = osaka();
    let year = NOW + Duration::days(366);
    let late = |mut statement: BundleStatement, key: &SigningKey| {
        statement.issued = year - Duration::hours(1);
        statement.expires = year + Duration::days(7);
        sign(Statement::Bundle(statement), &[key])
    };
    let before = first(&osaka, 1);
    let offered = [osaka.genesis(), late(osaka.statement(2), &osaka.online())];
    let news = verify(&offered, &osaka, Some(&before), year).unwrap();
    assert!(matches!(news.standing, Err(Reason::RootExpired { .. })));
    assert_eq!(news.seen, before.seen);
    let root = second(&osaka, |root| root.expires = year + Duration::days(365));
    let mut statement = osaka.statement(2);
    statement.root_version = 2;
    let offered = [osaka.genesis(), root, late(statement, &key(99))];
    let news = verify(&offered, &osaka, Some(&before), year).unwrap();
    assert_eq!(news.standing.unwrap().root_version, 2);
}

#[test]
fn statements_outside_their_time_give_nothing() {
    let osaka = osaka();
    let before = first(&osaka, 1);
    let week = NOW + Duration::days(8);
    let offered = [osaka.genesis(), osaka.bundle(2)];
    let news = verify(&offered, &osaka, Some(&before), week).unwrap();
    assert!(matches!(news.standing, Err(Reason::BundleExpired { .. })));
    assert_eq!(news.seen, before.seen);
    let early = NOW - Duration::days(1);
    let refused = verify(&offered, &osaka, Some(&before), early).unwrap_err();
    assert_eq!(refused.label(), "time");
}

#[test]
fn a_withdrawal_is_for_ever_though_the_next_record_hides_it() {
    let osaka = osaka();
    let before = first(&osaka, 1);
    let statements = [osaka.genesis(), osaka.bundle(2)];
    let with = |keys: &[&SigningKey]| {
        let mut offered = statements.to_vec();
        offered.push(osaka.withdrawal(keys));
        verify(&offered, &osaka, Some(&before), NOW)
    };
    let refused = with(&[&osaka.online()]).unwrap_err();
    assert_eq!(refused.label(), "statement");
    let news = with(&[&osaka.recovery()]).unwrap();
    assert!(matches!(news.standing, Err(Reason::Withdrawn { .. })));
    let later = verify(&statements, &osaka, Some(&news), NOW).unwrap();
    assert!(matches!(later.standing, Err(Reason::Withdrawn { .. })));
    assert_eq!(later.seen, news.seen);
}

#[test]
fn records_are_bounded_and_in_order() {
    let osaka = osaka();
    let long = vec![b' '; MAX_RECORD_BYTES + 1];
    let refused = SiteRecord::parse(&long).unwrap_err();
    assert_eq!(refused, RecordError::TooLarge(MAX_RECORD_BYTES + 1));
    for nothing in [b"".as_slice(), b"\n\n"] {
        assert_eq!(SiteRecord::parse(nothing), Err(RecordError::NoRoot));
    }
    let bundle_document = br#"{"keys":[],"spiffe_sequence":1}"#;
    let refused = SiteRecord::parse(bundle_document).unwrap_err();
    assert!(matches!(refused, RecordError::Line { line: 1, .. }));
    let new = |statements: &[Envelope]| SiteRecord::new(statements.iter().cloned());
    let (genesis, bundle) = (osaka.genesis(), osaka.bundle(1));
    assert_eq!(
        new(std::slice::from_ref(&genesis)),
        Err(RecordError::NoBundle)
    );
    assert_eq!(new(std::slice::from_ref(&bundle)), Err(RecordError::NoRoot));
    for late in [&genesis, &bundle] {
        let refused = new(&[genesis.clone(), bundle.clone(), late.clone()]).unwrap_err();
        assert!(matches!(refused, RecordError::Order { line: 3, .. }));
    }
    let admission = osaka.admission(crate::AdmissionStatus::Admitted);
    let refused = new(&[genesis, admission]).unwrap_err();
    assert!(matches!(refused, RecordError::Order { line: 2, .. }));
}
