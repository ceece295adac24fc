use renkei_api::status::EntryKind;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use time::macros::datetime;

use super::*;
use crate::{
    fixtures::{id, own},
    store::SqliteStore,
};

const START: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);
const LATER: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

fn workload(entry: &str, name: &str, selectors: &[&str]) -> Registration {
    Registration {
        id: EntryId::parse(entry).unwrap(),
        spiffe_id: id(name),
        kind: EntryKind::Workload,
        hint: name.to_owned(),
        is_default: false,
        selectors: selectors.iter().map(|&text| text.to_owned()).collect(),
        on: Placement::Everywhere,
        attributes: Attributes::default(),
    }
}

impl Entries {
    fn identity(&self, id: &EntryId) -> Option<SpiffeId> {
        Some(self.get(id)?.entry.spiffe_id)
    }
}

fn entry(id: &str) -> EntryId {
    EntryId::parse(id).unwrap()
}

async fn open(folder: &std::path::Path) -> Entries {
    let store = SqliteStore::open(folder, &own()).await.unwrap();
    Entries::open(Arc::new(store), own()).await.unwrap()
}

fn ids(entries: &Entries) -> Vec<String> {
    let part = entries.agent_part().borrow().clone();
    part.entries.iter().map(|one| one.id.to_string()).collect()
}

#[tokio::test]
async fn a_source_changes_only_its_own_entries() {
    let folder = tempfile::tempdir().unwrap();
    let (file, api) = (EntrySource::FILE, EntrySource::new("api"));
    let entries = open(folder.path()).await;
    let collector = workload("file.workload.collector", "collector", &["unix:uid:1"]);
    let robot = workload("robot", "robot", &["unix:uid:2"]);
    let of_file = [collector.clone()];
    entries.replace(&file, &of_file, START).await.unwrap();
    let of_api = [robot.clone()];
    entries.replace(&api, &of_api, START).await.unwrap();
    assert_eq!(ids(&entries), ["file.workload.collector", "robot"]);

    entries.replace(&file, &[], LATER).await.unwrap();
    assert_eq!(ids(&entries), ["robot"]);
    let stolen = [collector, robot];
    let error = entries.replace(&file, &stolen, LATER).await.unwrap_err();
    assert!(matches!(error, StoreError::ForeignEntry { .. }), "{error}");
    assert!(error.to_string().contains("`api`"), "{error}");
    assert_eq!(ids(&entries), ["robot"], "nothing has changed");
    entries.store.close().await;
    drop(entries);

    let entries = open(folder.path()).await;
    assert_eq!(ids(&entries), ["robot"], "as the database has it");
    assert_eq!(entries.status()[0].source, "api");
}

#[tokio::test]
async fn a_revision_rises_with_a_change_and_with_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let entries = open(folder.path()).await;
    let stays = workload("a", "a", &["unix:uid:1"]);
    let before = [stays.clone(), workload("b", "b", &["unix:uid:2"])];
    let after = [stays, workload("b", "b", &["unix:uid:3"])];
    entries
        .replace(&EntrySource::FILE, &before, START)
        .await
        .unwrap();
    let mut part = entries.agent_part();
    let first = part.borrow_and_update().version;
    entries
        .replace(&EntrySource::FILE, &before, LATER)
        .await
        .unwrap();
    assert!(!part.has_changed().unwrap(), "the same again is no change");
    entries
        .replace(&EntrySource::FILE, &after, LATER)
        .await
        .unwrap();
    let changed = part.borrow_and_update().clone();
    assert!(changed.version > first);
    let revisions: Vec<u64> = changed.entries.iter().map(|one| one.revision).collect();
    assert_eq!(revisions, [0, 1]);
    assert!(entries.status().iter().all(|one| one.since == Some(START)));
}

#[tokio::test]
async fn an_entry_that_cannot_be_attested_or_is_of_another_domain_is_for_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let entries = open(folder.path()).await;
    let later = workload("later", "later", &["unix:uid:1", "moon:phase:full"]);
    let mut foreign = workload("foreign", "x", &["unix:uid:1"]);
    foreign.spiffe_id = SpiffeId::parse("spiffe://tokyo.example/x").unwrap();
    let api = EntrySource::new("api");
    entries
        .replace(&api, &[later, foreign], START)
        .await
        .unwrap();
    // Without the selector that is not known, every process of user 1 would be `later`.
    assert!(!ids(&entries).contains(&"later".to_owned()));
    assert_eq!(entries.identity(&entry("foreign")), None);
}

#[tokio::test]
async fn what_has_an_entry_stays_issued_while_the_database_fails() {
    let folder = tempfile::tempdir().unwrap();
    let entries = open(folder.path()).await;
    let one = |name, selectors: &[&str]| workload(name, name, selectors);
    let stays = one("stays", &["unix:uid:1"]);
    let before = [stays.clone(), one("gone", &["unix:uid:1"])];
    let api = [one("api", &["unix:uid:1"])];
    let (file, other) = (EntrySource::FILE, EntrySource::new("api"));
    entries.replace(&file, &before, START).await.unwrap();
    entries.replace(&other, &api, START).await.unwrap();
    entries.store.close().await;
    let after = [stays, one("new", &["unix:uid:1"])];
    entries.replace(&file, &after, LATER).await.unwrap_err();
    assert_eq!(entries.identity(&entry("stays")), Some(id("stays")));
    assert_eq!(entries.identity(&entry("api")), Some(id("api")));
    assert_eq!(entries.identity(&entry("gone")), None, "it was removed");
    assert_eq!(entries.identity(&entry("new")), None, "it is not stored");
    assert_eq!(ids(&entries), ["api", "stays"]);
    assert_eq!(entries.status().len(), 2);
}

#[tokio::test]
async fn a_change_of_an_entry_only_narrows_it_while_the_database_fails() {
    let folder = tempfile::tempdir().unwrap();
    let entries = open(folder.path()).await;
    let one = |name, selectors: &[&str]| workload(name, name, selectors);
    let before = [
        one("moved", &["unix:uid:1"]),
        one("narrower", &["unix:uid:1"]),
        one("other-id", &["unix:uid:1"]),
        one("was-for-none", &[]),
        one("wider", &["unix:uid:1", "unix:gid:2"]),
    ];
    let file = EntrySource::FILE;
    entries.replace(&file, &before, START).await.unwrap();
    entries.store.close().await;
    let mut other_id = one("other-id", &["unix:uid:1"]);
    other_id.spiffe_id = id("root");
    let after = [
        one("moved", &["unix:uid:2"]),
        one("narrower", &["unix:uid:1", "unix:gid:2"]),
        other_id,
        one("was-for-none", &["unix:uid:1"]),
        one("wider", &["unix:gid:2"]),
    ];
    entries.replace(&file, &after, LATER).await.unwrap_err();
    assert_eq!(entries.identity(&entry("other-id")), None);
    let part = entries.agent_part().borrow().clone();
    let selectors = part.entries.iter().map(|one| {
        let texts = one.selectors.iter().map(ToString::to_string);
        (one.id.as_str(), texts.collect::<Vec<_>>())
    });
    let both = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    let expected: Vec<(&str, Vec<String>)> = vec![
        ("moved", both(&["unix:uid:2", "unix:uid:1"])),
        ("narrower", both(&["unix:uid:1", "unix:gid:2"])),
        ("was-for-none", vec![]),
        ("wider", both(&["unix:gid:2", "unix:uid:1"])),
    ];
    assert_eq!(selectors.collect::<Vec<_>>(), expected);
}

/// Changes the database behind the back of its store.
async fn change(folder: &std::path::Path, statement: &'static str) {
    let database = SqliteConnectOptions::new().filename(folder.join("renkei.db"));
    let pool = SqlitePoolOptions::new().connect_with(database).await;
    let pool = pool.unwrap();
    sqlx::raw_sql(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_left_out_alone() {
    for damage in [
        "UPDATE entries SET spiffe_id = 'x' WHERE id = 'bad'",
        "UPDATE entries SET kind = 'x' WHERE id = 'bad'",
        "UPDATE entries SET selectors = 'x' WHERE id = 'bad'",
        "UPDATE entries SET since = 9223372036854775807 WHERE id = 'bad'",
        "UPDATE entries SET hint = CAST(X'FF' AS TEXT) WHERE id = 'bad'",
        "UPDATE entries SET id = 'a/b' WHERE id = 'bad'",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let entries = open(folder.path()).await;
        let all = ["bad", "good"].map(|name| workload(name, name, &["unix:uid:1"]));
        entries
            .replace(&EntrySource::FILE, &all, START)
            .await
            .unwrap();
        entries.store.close().await;
        drop(entries);
        change(folder.path(), damage).await;
        let entries = open(folder.path()).await;
        assert_eq!(ids(&entries), ["good"], "{damage}");
        assert_eq!(entries.identity(&entry("bad")), None, "{damage}");
        // Its source may write it once more, and no other.
        let api = EntrySource::new("api");
        entries.replace(&api, &all[..1], LATER).await.unwrap();
        let taken = entries.identity(&entry("bad"));
        assert_eq!(taken.is_some(), damage.contains("'a/b'"), "{damage}");
        entries.replace(&api, &[], LATER).await.unwrap();
        entries
            .replace(&EntrySource::FILE, &all, LATER)
            .await
            .unwrap();
        assert_eq!(ids(&entries), ["bad", "good"], "{damage}");
    }
}

#[tokio::test]
async fn a_database_of_the_release_before_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let database = SqliteConnectOptions::new()
        .filename(folder.path().join("renkei.db"))
        .create_if_missing(true);
    let pool = SqlitePoolOptions::new().connect_with(database).await;
    let pool = pool.unwrap();
    let dump = include_str!("../store/fixtures/schema-3.sql");
    sqlx::raw_sql(dump).execute(&pool).await.unwrap();
    pool.close().await;

    let made = OffsetDateTime::from_unix_timestamp(1_796_040_361).unwrap();
    let entries = open(folder.path()).await;
    let all = [
        "file.server",
        "file.service.broker",
        "file.workload.collector",
    ];
    assert_eq!(ids(&entries), all);
    let identity = entries.identity(&entry("file.workload.collector"));
    assert_eq!(identity, Some(id("collector")));
    assert_eq!(
        entries.identity(&entry("file.server")),
        Some(id("osaka.example/renkei/server"))
    );
    assert_eq!(entries.store.authorities().await.unwrap().len(), 1);
    let version = entries.agent_part().borrow().version;

    // The same file as before is no change.
    let mut wanted = of_file(&crate::fixtures::part_with("").entries);
    for one in &mut wanted {
        if one.kind == EntryKind::Workload {
            one.selectors = vec![
                "unix:uid:1000".into(),
                "unix:path:/usr/bin/collector".into(),
            ];
        }
    }
    entries
        .replace(&EntrySource::FILE, &wanted, LATER)
        .await
        .unwrap();
    assert_eq!(entries.agent_part().borrow().version, version);
    assert!(entries.status().iter().all(|one| one.since == Some(made)));
}

fn on(names: &[&str]) -> Placement {
    Placement::Nodes(names.iter().map(|&name| name.to_owned()).collect())
}

#[tokio::test]
async fn an_entry_is_for_the_processes_that_it_is_placed_on() {
    let folder = tempfile::tempdir().unwrap();
    let entries = open(folder.path()).await;
    let placed = |id: &str, on: Placement| Registration {
        on,
        ..workload(id, "collector", &["unix:uid:1"])
    };
    let service = Registration {
        kind: EntryKind::Service,
        ..placed("service", Placement::Server)
    };
    let wanted = [
        placed("everywhere", Placement::Everywhere),
        placed("store", on(&["store"])),
        service,
    ];
    let file = EntrySource::FILE;
    entries.replace(&file, &wanted, START).await.unwrap();
    let held = |holder| -> Vec<String> {
        let held = entries.held_by(&holder);
        held.iter()
            .map(|known| known.entry.id.to_string())
            .collect()
    };
    let node = |name: &str| EntryHolder::Node(name.to_owned());
    assert_eq!(held(EntryHolder::Own), ["everywhere", "service"]);
    assert_eq!(held(node("store")), ["everywhere", "store"]);
    assert_eq!(held(node("gw1")), ["everywhere"]);
    let agent = EntryHolder::Agent(at("spire/agent/join_token/one"));
    assert_eq!(held(agent), ["everywhere"]);

    // The database has not taken the move yet: the node before has lost it, the next waits.
    entries.limit(&file, vec![placed("store", on(&["gw1"]))]);
    assert_eq!(held(node("store")), [""; 0]);
    assert_eq!(held(node("gw1")), [""; 0]);
    entries.write(&file, LATER).await.unwrap();
    assert_eq!(held(node("gw1")), ["store"]);
}

#[test]
fn a_placement_that_changes_is_in_force_where_both_are() {
    let (everywhere, server) = (Placement::Everywhere, Placement::Server);
    for (before, wanted, both) in [
        (&everywhere, &on(&["a"]), Some(on(&["a"]))),
        (&on(&["a"]), &everywhere, Some(on(&["a"]))),
        (&on(&["a", "b"]), &on(&["b", "c"]), Some(on(&["b"]))),
        (&on(&["a"]), &on(&["b"]), None),
        (&server, &on(&["a"]), None),
        (&server, &server, Some(server.clone())),
    ] {
        assert_eq!(on_both(before, wanted), both, "{before:?} {wanted:?}");
    }
}

fn at(path: &str) -> SpiffeId {
    SpiffeId::with_path(own(), &format!("/{path}")).unwrap()
}

fn below(id: &str, name: &str, parent: &str, selectors: &[&str]) -> Registration {
    Registration {
        attributes: Attributes {
            parent: Some(at(parent)),
            ..Attributes::default()
        },
        ..workload(id, name, selectors)
    }
}

#[tokio::test]
async fn an_entry_of_the_api_is_for_those_who_hold_its_parent() {
    let folder = tempfile::tempdir().unwrap();
    let entries = open(folder.path()).await;
    let agent = "spire/agent/join_token/one";
    let of_agent = format!("spiffe_id:{}", at(agent));
    let file = [Registration {
        on: on(&["store"]),
        ..workload("file.workload.store", "store", &["unix:uid:1"])
    }];
    entries
        .replace(&EntrySource::FILE, &file, START)
        .await
        .unwrap();
    let api = [
        below("alias", "group", "spire/server", &[&of_agent]),
        below("in-group", "a", "group", &["unix:uid:1"]),
        below("deeper", "b", "a", &["unix:uid:2"]),
        // A circle is no way out of anything.
        below("circle", "a", "b", &["unix:uid:3"]),
        below("everybody", "c", "renkei/nodes", &["unix:uid:4"]),
        below("below-file", "d", "store", &["unix:uid:5"]),
        below("own", "e", "renkei/server", &["unix:uid:6"]),
        below("no-alias", "other", "spire/server", &["unix:uid:7"]),
    ];
    let made = entries.edit(START, |draft| {
        api.iter().cloned().for_each(|entry| draft.put(entry));
    });
    made.await.unwrap();
    let held = |holder: EntryHolder| -> Vec<String> {
        let held = entries.held_by(&holder);
        held.iter()
            .map(|known| known.entry.id.to_string())
            .collect()
    };
    let in_group = ["circle", "deeper", "everybody", "in-group"];
    assert_eq!(held(EntryHolder::Agent(at(agent))), in_group);
    let other = EntryHolder::Agent(at("spire/agent/join_token/two"));
    assert_eq!(held(other), ["everybody"]);
    let store = ["below-file", "everybody", "file.workload.store"];
    assert_eq!(held(EntryHolder::Node("store".to_owned())), store);
    assert_eq!(held(EntryHolder::Own), ["everybody", "own"]);
}

#[tokio::test]
async fn an_entry_of_the_api_ends_by_itself_and_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let entries = open(folder.path()).await;
    let mut short = below("short", "a", "renkei/nodes", &["unix:uid:1"]);
    short.attributes.expires_at = Some(LATER.unix_timestamp());
    let stays = below("stays", "b", "renkei/nodes", &["unix:uid:2"]);
    let made = entries.edit(START, |draft| {
        draft.put(short);
        draft.put(stays.clone());
    });
    made.await.unwrap();
    entries.store.close().await;
    drop(entries);

    let entries = open(folder.path()).await;
    assert_eq!(ids(&entries), ["short", "stays"]);
    assert_eq!(entries.get(&entry("stays")).unwrap().entry, stays);
    entries.remove_expired(START).await.unwrap();
    assert_eq!(ids(&entries), ["short", "stays"]);
    entries.remove_expired(LATER).await.unwrap();
    assert_eq!(ids(&entries), ["stays"]);
}
