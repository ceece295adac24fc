//! What every store must do, whatever is behind it. An implementation passes by calling [`all`].

use std::{future::Future, sync::Arc};

use renkei_api::{
    node::EntryId,
    status::{CaState, EntryKind},
};
use renkei_federation::{Digest, SiteSeen};
use renkei_runtime::clock::{Moment, Record};
use renkei_site::Placement;
use renkei_spiffe::{Bundle, TrustDomain};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime, macros::datetime};

use super::{
    AgentRow, Attributes, CaRow, DataStore, EntrySource, IssuedRow, PeerRow, Registration, SiteRow,
    SqliteStore, StoreError, TokenRow, TokenUse,
};
use crate::fixtures::{id, own};

const START: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

/// Runs everything. `open` opens the same store each time, empty at first; the one before has
/// been closed.
pub(crate) async fn all<F: Future<Output = Arc<dyn DataStore>>>(open: impl Fn() -> F) {
    for step in 0..6 {
        // All that was written before must have outlived its store.
        let store = open().await;
        assert_eq!(store.trust_domain().await.unwrap(), own());
        match step {
            0 => authorities(&*store).await,
            1 => entries(&*store).await,
            2 => issued(&*store).await,
            3 => peers(&*store).await,
            4 => nodes(&*store).await,
            _ => clock(&*store).await,
        }
        store.close().await;
        drop(store);
        let again = open().await;
        match step {
            0 => assert_eq!(states(&*again).await, [("b", CaState::Active)]),
            1 => assert_eq!(names(&*again).await, ["api.x", "file.b"]),
            2 => assert_eq!(again.valid_svids(START).await.unwrap(), 1),
            3 => assert_eq!(again.peer_bundles().await.unwrap().len(), 1),
            4 => assert_eq!(again.agents().await.unwrap(), [agent("store", Some("2"))]),
            _ => assert!(again.clock_record().await.unwrap().is_some()),
        }
        again.close().await;
    }
}

fn ca(name: &str, state: CaState, days: i64) -> CaRow {
    CaRow {
        id: name.to_owned(),
        certificate: CertificateDer::from(name.as_bytes().to_vec()),
        state,
        not_before: START + Duration::days(days),
        not_after: START + Duration::days(days + 1),
        key_file: Some(format!("{name}.pem")),
    }
}

async fn states(store: &dyn DataStore) -> Vec<(&'static str, CaState)> {
    let all = store.authorities().await.unwrap();
    let name = |ca: &CaRow| if ca.id == "a" { "a" } else { "b" };
    all.iter().map(|ca| (name(ca), ca.state)).collect()
}

async fn sequence(store: &dyn DataStore) -> u64 {
    store.bundle_state().await.unwrap().0
}

/// What changes the bundle raises its sequence; what does not, does not.
async fn authorities(store: &dyn DataStore) {
    let zero = sequence(store).await;
    store
        .add_authority(&ca("a", CaState::Active, 0), None)
        .await
        .unwrap();
    store
        .add_authority(&ca("b", CaState::Prepared, 1), None)
        .await
        .unwrap();
    let two = sequence(store).await;
    assert_eq!(two, zero + 2);
    // One signs, and one is next.
    store
        .add_authority(&ca("c", CaState::Active, 2), None)
        .await
        .unwrap_err();
    store
        .add_authority(&ca("c", CaState::Prepared, 2), None)
        .await
        .unwrap_err();
    assert_eq!(sequence(store).await, two);

    store.activate_prepared("b").await.unwrap();
    let activated = [("a", CaState::Old), ("b", CaState::Active)];
    assert_eq!(states(store).await, activated);
    // What is not as the caller knows it stays.
    let late = [
        store.activate_prepared("b").await,
        store.set_prepared_aside("b").await,
        store.reinstate("b").await,
        store
            .add_authority(&ca("c", CaState::Active, 2), Some("a"))
            .await,
    ];
    for refused in late {
        assert!(matches!(refused, Err(StoreError::Changed { .. })));
    }
    assert_eq!(states(store).await, activated);
    assert_eq!(sequence(store).await, two);
    store.reinstate("a").await.unwrap();
    assert_eq!(
        states(store).await,
        [("a", CaState::Active), ("b", CaState::Old)]
    );
    store.reinstate("b").await.unwrap();
    assert_eq!(states(store).await, activated);
    store.forget_key("a").await.unwrap();
    let all = store.authorities().await.unwrap();
    assert_eq!((&all[0].key_file, all[1].key_file.is_some()), (&None, true));
    assert_eq!(sequence(store).await, two);

    let hint = std::time::Duration::from_secs(7);
    store.set_refresh_hint(hint).await.unwrap();
    store.remove_ended(START + Duration::days(1)).await.unwrap();
    assert_eq!(store.bundle_state().await.unwrap(), (two + 1, hint));
    // Nothing is left to take out.
    store.remove_ended(START + Duration::days(1)).await.unwrap();
    assert_eq!(sequence(store).await, two + 1);
}

fn entry(name: &str, selector: &str) -> Registration {
    Registration {
        id: EntryId::parse(name).unwrap(),
        spiffe_id: id("collector"),
        kind: EntryKind::Workload,
        hint: "collector".to_owned(),
        is_default: false,
        selectors: vec![selector.to_owned()],
        on: Placement::Nodes(["store".to_owned()].into()),
        attributes: Attributes::default(),
    }
}

async fn names(store: &dyn DataStore) -> Vec<String> {
    let set = store.entries().await.unwrap();
    set.entries.keys().map(ToString::to_string).collect()
}

/// A source changes only its own entries, and either all of them or none.
async fn entries(store: &dyn DataStore) {
    let (file, api) = (EntrySource::FILE, EntrySource::new("api"));
    let first = [entry("file.a", "unix:uid:1"), entry("file.b", "unix:uid:2")];
    let one = store.replace_entries(&file, &first, START).await.unwrap();
    let other = [entry("api.x", "unix:uid:3")];
    let two = store.replace_entries(&api, &other, START).await.unwrap();
    assert!(two.version > one.version);
    assert_eq!(two.entries.len(), 3);

    let stolen = [entry("file.c", "unix:uid:4"), entry("api.x", "unix:uid:4")];
    let refused = store.replace_entries(&file, &stolen, START).await;
    assert!(matches!(refused, Err(StoreError::ForeignEntry { .. })));
    assert_eq!(store.entries().await.unwrap(), two);

    let later = START + Duration::days(1);
    let next = [entry("file.b", "unix:uid:5")];
    let three = store.replace_entries(&file, &next, later).await.unwrap();
    assert_eq!(store.entries().await.unwrap(), three);
    let changed = &three.entries[&next[0].id];
    let before = &two.entries[&next[0].id];
    assert!(changed.revision > before.revision);
    assert_eq!((changed.since, &changed.source), (START, &file));
    assert_eq!(changed.entry, next[0]);
}

async fn issued(store: &dyn DataStore) {
    for (serial, days) in [("1", 0), ("2", 1)] {
        let row = IssuedRow {
            serial: serial.to_owned(),
            id: id("collector"),
            not_before: START,
            not_after: START + Duration::days(days),
            issued_at: START,
        };
        store.record_issued(&row).await.unwrap();
        // A serial number is given once.
        store.record_issued(&row).await.unwrap_err();
    }
    assert_eq!(store.valid_svids(START).await.unwrap(), 1);
    assert_eq!(store.prune_issued(START).await.unwrap(), 1);
}

async fn peers(store: &dyn DataStore) {
    let bundle = |name: &str, sequence| Bundle {
        sequence: Some(sequence),
        ..Bundle::empty(TrustDomain::parse(name).unwrap())
    };
    for (name, sequence) in [("a.example", 1), ("b.example", 1), ("b.example", 2)] {
        let row = PeerRow {
            bundle: bundle(name, sequence),
            fetched_at: START,
            bootstrap: Some([7; 32]),
        };
        store.keep_peer_bundle(&row).await.unwrap();
    }
    let (a, b) = (bundle("a.example", 1), bundle("b.example", 2));
    store.forget_peer(&a.trust_domain).await.unwrap();
    assert!(store.peer_bundle(&a.trust_domain).await.unwrap().is_none());
    let kept = store.peer_bundle(&b.trust_domain).await.unwrap().unwrap();
    assert_eq!(kept.bundle.sequence, Some(2));
    assert_eq!((kept.fetched_at, kept.bootstrap), (START, Some([7; 32])));
    sites(store).await;
}

/// What was seen of an identity is what was kept of it last, and of no other.
async fn sites(store: &dyn DataStore) {
    let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
    let row = |root_version, record: Option<&[u8]>| SiteRow {
        identity: one,
        seen: SiteSeen {
            root_version,
            head: other,
            sequence: u64::MAX,
            statement: Some(one),
            withdrawn: None,
        },
        record: record.map(<[u8]>::to_vec),
        fetched_at: START,
    };
    assert_eq!(store.site(one).await.unwrap(), None);
    for row in [row(1, Some(b"a record")), row(2, None)] {
        store.keep_site(&row).await.unwrap();
        assert_eq!(store.site(one).await.unwrap(), Some(row));
    }
    assert_eq!(store.site(other).await.unwrap(), None);
}

fn agent(name: &str, next_serial: Option<&str>) -> AgentRow {
    AgentRow {
        id: id(&format!("osaka.example/renkei/node/{name}")),
        attestor: "join_token".to_owned(),
        serial: "1".to_owned(),
        next_serial: next_serial.map(str::to_owned),
        not_after: START + Duration::hours(1),
        attested_at: START,
        banned: next_serial.is_some(),
        release: "0.1.0".to_owned(),
    }
}

/// A token is good once and until its end; a node is what was said of it last.
async fn nodes(store: &dyn DataStore) {
    let token = |of: u8, minutes| TokenRow {
        hash: [of; 32],
        node: (of == 1).then(|| "store".to_owned()),
        ends_at: START + Duration::minutes(minutes),
    };
    for row in [token(1, 10), token(2, 10), token(3, 1)] {
        store.keep_token(&row).await.unwrap();
    }
    store.keep_token(&token(1, 99)).await.unwrap_err();
    let (first, later) = (START + Duration::minutes(2), START + Duration::minutes(3));
    let take = |of: u8, now| async move { store.take_token(&[of; 32], now).await.unwrap() };
    assert_eq!(take(1, first).await, TokenUse::Taken(token(1, 10)));
    assert_eq!(take(1, later).await, TokenUse::Used(first));
    assert_eq!(take(2, later).await, TokenUse::Taken(token(2, 10)));
    assert_eq!(take(3, later).await, TokenUse::Expired(token(3, 1).ends_at));
    assert_eq!(take(4, later).await, TokenUse::Unknown);
    store.prune_tokens(later).await.unwrap();
    assert_eq!(take(1, later).await, TokenUse::Used(first));
    store.prune_tokens(later + Duration::days(8)).await.unwrap();
    assert_eq!(take(1, later).await, TokenUse::Unknown);

    for row in [
        agent("gw1", None),
        agent("store", None),
        agent("store", Some("2")),
    ] {
        store.keep_agent(&row).await.unwrap();
    }
    store.remove_agent(&agent("gw1", None).id).await.unwrap();
    assert_eq!(store.agents().await.unwrap(), [agent("store", Some("2"))]);
}

async fn clock(store: &dyn DataStore) {
    for days in [1, 2] {
        let record = Record {
            moment: Moment {
                wall: START + Duration::days(days),
                boot: Duration::hours(days),
            },
            boot_id: "a run".to_owned(),
            followed: Some(START),
            believed: None,
        };
        store.keep_clock(&record).await.unwrap();
        assert_eq!(store.clock_record().await.unwrap(), Some(record));
    }
}

#[tokio::test]
async fn sqlite_is_a_store() {
    let folder = tempfile::tempdir().unwrap();
    all(|| async {
        let store = SqliteStore::open(folder.path(), &own()).await.unwrap();
        Arc::new(store) as Arc<dyn DataStore>
    })
    .await;
}
