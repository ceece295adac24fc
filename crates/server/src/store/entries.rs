//! Registration entries. A change of one source is one transaction, and raises the version of the
//! whole set.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use async_trait::async_trait;
use renkei_api::{node::EntryId, status::EntryKind};
use renkei_site::Placement;
use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Sqlite, SqliteConnection, Transaction, sqlite::SqliteRow};
use time::OffsetDateTime;

use super::{SqliteStore, StoreError};

/// Where entries come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EntrySource(Cow<'static, str>);

impl EntrySource {
    pub(crate) const FILE: Self = Self(Cow::Borrowed("file"));
    /// Made by callers of the server's API.
    pub(crate) const API: Self = Self(Cow::Borrowed("api"));

    pub(crate) fn new(name: impl Into<Cow<'static, str>>) -> Self {
        Self(name.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntrySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An entry as its source wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) id: EntryId,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) kind: EntryKind,
    pub(crate) hint: String,
    /// Comes first in the answers to a process that has several.
    pub(crate) is_default: bool,
    /// As written in the site file: `unix:user:kafka`.
    pub(crate) selectors: Vec<String>,
    /// Who may ask for it, unless it has a parent.
    pub(crate) on: Placement,
    /// What only entries of the API have.
    pub(crate) attributes: Attributes,
}

/// What a caller of the API says of an entry. What a later release adds here keeps the entry out
/// of this one: it could mean a limit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Attributes {
    /// The agent, or the entry above this one: who holds it may ask for this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<SpiffeId>,
    /// How long an X509-SVID lives; as the site's others without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x509_svid_seconds: Option<u32>,
    /// The other trust domains whose bundles its workloads get.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) federates_with: BTreeSet<TrustDomain>,
    /// Its SVIDs may manage the server.
    pub(crate) admin: bool,
    /// Its SVIDs are of a server below this one.
    pub(crate) downstream: bool,
    /// The entry ends by itself then, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<i64>,
    /// They go into the certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) dns_names: Vec<String>,
}

impl Registration {
    /// Whether it has ended by itself.
    pub(crate) fn is_expired(&self, now: OffsetDateTime) -> bool {
        let end = self.attributes.expires_at;
        end.is_some_and(|end| end <= now.unix_timestamp())
    }
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) entry: Registration,
    pub(crate) source: EntrySource,
    /// Rises with each change of the entry.
    pub(crate) revision: u64,
    /// When the entry was made.
    pub(crate) since: OffsetDateTime,
}

/// All entries at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct EntrySet {
    /// Rises with each change of any entry.
    pub(crate) version: u64,
    pub(crate) entries: BTreeMap<EntryId, Registered>,
}

const ALL: &str = "SELECT id, source, spiffe_id, kind, hint, is_default, selectors,
                          placement, attributes, revision, since
                   FROM entries ORDER BY id";

type Columns = (
    String,
    String,
    String,
    String,
    String,
    bool,
    String,
    String,
    String,
    i64,
    i64,
);

#[async_trait]
pub(crate) trait EntryStore {
    /// The entries of all sources, in the order of their IDs.
    async fn entries(&self) -> Result<EntrySet, StoreError>;

    /// Makes the entries of one source equal to `wanted`. Those of other sources stay as they
    /// are; an ID that another source has is refused, and then nothing has changed.
    async fn replace_entries(
        &self,
        source: &EntrySource,
        wanted: &[Registration],
        now: OffsetDateTime,
    ) -> Result<EntrySet, StoreError>;

    /// Puts some entries of one source in, in place of those of the same ID, and takes others
    /// out. An ID that another source has is refused, and then nothing has changed.
    async fn change_entries(
        &self,
        source: &EntrySource,
        changed: &[Registration],
        removed: &[EntryId],
        now: OffsetDateTime,
    ) -> Result<EntrySet, StoreError>;
}

#[async_trait]
impl EntryStore for SqliteStore {
    async fn entries(&self) -> Result<EntrySet, StoreError> {
        self.bounded(async {
            let mut read = self.database.begin().await.map_err(|e| self.error(e))?;
            self.entry_set(&mut read).await
        })
        .await
    }

    async fn replace_entries(
        &self,
        source: &EntrySource,
        wanted: &[Registration],
        now: OffsetDateTime,
    ) -> Result<EntrySet, StoreError> {
        self.bounded(self.replace(source, wanted, now)).await
    }

    async fn change_entries(
        &self,
        source: &EntrySource,
        changed: &[Registration],
        removed: &[EntryId],
        now: OffsetDateTime,
    ) -> Result<EntrySet, StoreError> {
        self.bounded(self.change(source, changed, removed, now))
            .await
    }
}

impl SqliteStore {
    async fn entry_set(&self, connection: &mut SqliteConnection) -> Result<EntrySet, StoreError> {
        let rows = sqlx::query(ALL)
            .fetch_all(&mut *connection)
            .await
            .map_err(|error| self.error(error))?;
        let version: i64 = sqlx::query_scalar("SELECT version FROM entry_set")
            .fetch_one(&mut *connection)
            .await
            .map_err(|error| self.error(error))?;
        // An entry that cannot be read is left out; the others stay in force.
        let entries = rows.iter().filter_map(|row| {
            let known = self.registered(row).inspect_err(|error| {
                tracing::error!(%error, "a registration entry is left out");
            });
            let known = known.ok()?;
            Some((known.entry.id.clone(), known))
        });
        Ok(EntrySet {
            version: version.unsigned_abs(),
            entries: entries.collect(),
        })
    }

    fn registered(&self, row: &SqliteRow) -> Result<Registered, StoreError> {
        let row = Columns::from_row(row).map_err(|error| self.error(error))?;
        let (
            id,
            source,
            spiffe_id,
            kind,
            hint,
            is_default,
            selectors,
            on,
            attributes,
            revision,
            since,
        ) = row;
        let damaged =
            |what: &dyn fmt::Display| self.corrupt(format!("the entry {id:?} is damaged: {what}"));
        let entry = Registration {
            id: EntryId::parse(&*id).map_err(|error| damaged(&error))?,
            spiffe_id: SpiffeId::parse(&spiffe_id).map_err(|error| damaged(&error))?,
            kind: EntryKind::parse(&kind)
                .ok_or_else(|| damaged(&format!("{kind:?} is not a kind")))?,
            hint,
            is_default,
            selectors: serde_json::from_str(&selectors).map_err(|error| damaged(&error))?,
            on: serde_json::from_str(&on).map_err(|error| damaged(&error))?,
            attributes: serde_json::from_str(&attributes).map_err(|error| damaged(&error))?,
        };
        Ok(Registered {
            entry,
            source: EntrySource::new(source),
            revision: revision.unsigned_abs(),
            since: self.time(since)?,
        })
    }

    async fn replace(
        &self,
        source: &EntrySource,
        wanted: &[Registration],
        now: OffsetDateTime,
    ) -> Result<EntrySet, StoreError> {
        let begun = self.database.begin_with("BEGIN IMMEDIATE").await;
        let mut change = begun.map_err(|error| self.error(error))?;
        let before = self.entry_set(&mut change).await?;
        let ids = wanted.iter().map(|entry| &entry.id);
        check_source(&before, source, ids)?;
        let written = write(&mut change, &before, source, wanted, now).await;
        written.map_err(|error| self.error(error))?;
        let after = self.entry_set(&mut change).await?;
        change.commit().await.map_err(|error| self.error(error))?;
        Ok(after)
    }

    async fn change(
        &self,
        source: &EntrySource,
        changed: &[Registration],
        removed: &[EntryId],
        now: OffsetDateTime,
    ) -> Result<EntrySet, StoreError> {
        let begun = self.database.begin_with("BEGIN IMMEDIATE").await;
        let mut change = begun.map_err(|error| self.error(error))?;
        let before = self.entry_set(&mut change).await?;
        let ids = changed.iter().map(|entry| &entry.id);
        check_source(&before, source, ids.chain(removed))?;
        let written = async {
            delete(&mut change, source, removed).await?;
            for entry in changed {
                put(&mut change, source, entry, now).await?;
            }
            raise_version(&mut change).await
        };
        written.await.map_err(|error| self.error(error))?;
        let after = self.entry_set(&mut change).await?;
        change.commit().await.map_err(|error| self.error(error))?;
        Ok(after)
    }
}

/// Whether none of these IDs is another source's.
fn check_source<'a>(
    before: &EntrySet,
    source: &EntrySource,
    mut ids: impl Iterator<Item = &'a EntryId>,
) -> Result<(), StoreError> {
    let foreign = ids.find_map(|id| {
        let known = before.entries.get(id)?;
        (known.source != *source).then_some(known)
    });
    match foreign {
        None => Ok(()),
        Some(known) => Err(StoreError::ForeignEntry {
            id: known.entry.id.clone(),
            of: known.source.to_string(),
        }),
    }
}

async fn write(
    change: &mut Transaction<'_, Sqlite>,
    before: &EntrySet,
    source: &EntrySource,
    wanted: &[Registration],
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let of_source: BTreeMap<&EntryId, &Registered> = before
        .entries
        .iter()
        .filter(|(_, known)| known.source == *source)
        .collect();
    // Rows that cannot be read go as well, and are made again where they are wanted.
    let ids = wanted.iter().map(|entry| &entry.id);
    let kept: Vec<&str> = ids
        .filter(|id| of_source.contains_key(id))
        .map(EntryId::as_str)
        .collect();
    sqlx::query(
        "DELETE FROM entries
         WHERE source = ? AND id NOT IN (SELECT value FROM json_each(?))",
    )
    .bind(source.as_str())
    .bind(serde_json::json!(kept).to_string())
    .execute(&mut **change)
    .await?;
    let is_new = |entry: &&Registration| {
        let known = of_source.get(&entry.id);
        known.is_none_or(|known| known.entry != **entry)
    };
    for entry in wanted.iter().filter(is_new) {
        put(change, source, entry, now).await?;
    }
    raise_version(change).await
}

async fn put(
    change: &mut Transaction<'_, Sqlite>,
    source: &EntrySource,
    entry: &Registration,
    now: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO entries
             (id, source, spiffe_id, kind, hint, is_default, selectors, placement, attributes,
              revision, since)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?)
         ON CONFLICT (id) DO UPDATE SET spiffe_id = excluded.spiffe_id,
             kind = excluded.kind, hint = excluded.hint, is_default = excluded.is_default,
             selectors = excluded.selectors, placement = excluded.placement,
             attributes = excluded.attributes, revision = revision + 1
         WHERE source = excluded.source",
    )
    .bind(entry.id.as_str())
    .bind(source.as_str())
    .bind(entry.spiffe_id.to_string())
    .bind(entry.kind.as_str())
    .bind(&entry.hint)
    .bind(entry.is_default)
    .bind(serde_json::json!(entry.selectors).to_string())
    .bind(serde_json::json!(entry.on).to_string())
    .bind(serde_json::json!(entry.attributes).to_string())
    .bind(now.unix_timestamp())
    .execute(&mut **change)
    .await?;
    Ok(())
}

async fn delete(
    change: &mut Transaction<'_, Sqlite>,
    source: &EntrySource,
    ids: &[EntryId],
) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> = ids.iter().map(EntryId::as_str).collect();
    sqlx::query("DELETE FROM entries WHERE source = ? AND id IN (SELECT value FROM json_each(?))")
        .bind(source.as_str())
        .bind(serde_json::json!(ids).to_string())
        .execute(&mut **change)
        .await?;
    Ok(())
}

async fn raise_version(change: &mut Transaction<'_, Sqlite>) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE entry_set SET version = version + 1")
        .execute(&mut **change)
        .await?;
    Ok(())
}
