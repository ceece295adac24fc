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
        selectors: selectors.iter().map(|&text| text.to_owned()).collect(),
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
    let (file, api) = (Source::FILE, Source::new("api"));
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
        .replace(&Source::FILE, &before, START)
        .await
        .unwrap();
    let mut part = entries.agent_part();
    let first = part.borrow_and_update().version;
    entries
        .replace(&Source::FILE, &before, LATER)
        .await
        .unwrap();
    assert!(!part.has_changed().unwrap(), "the same again is no change");
    entries.replace(&Source::FILE, &after, LATER).await.unwrap();
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
    let api = Source::new("api");
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
    let old = [workload("old", "old", &["unix:uid:1"])];
    entries.replace(&Source::FILE, &old, START).await.unwrap();
    entries.store.close().await;
    let new = [workload("new", "new", &["unix:uid:1"])];
    entries
        .replace(&Source::FILE, &new, LATER)
        .await
        .unwrap_err();
    assert_eq!(entries.identity(&entry("old")), Some(id("old")));
    assert_eq!(entries.identity(&entry("new")), None);
    assert_eq!(ids(&entries), ["old"]);
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
        .replace(&Source::FILE, &wanted, LATER)
        .await
        .unwrap();
    assert_eq!(entries.agent_part().borrow().version, version);
    assert!(entries.status().iter().all(|one| one.since == Some(made)));
}
