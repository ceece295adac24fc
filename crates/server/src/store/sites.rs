//! What was seen of sites that are known by their identity. It outlives the entry under `peers`,
//! so that a site that is linked again is not shown an older state.

use async_trait::async_trait;
use renkei_federation::{Digest, SiteSeen};
use time::OffsetDateTime;

use super::{SqliteStore, StoreError};

/// A site as it was seen last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SiteRow {
    pub(crate) identity: Digest,
    pub(crate) seen: SiteSeen,
    /// The last record that was accepted, as it was served; nothing while none is valid.
    pub(crate) record: Option<Vec<u8>>,
    pub(crate) fetched_at: OffsetDateTime,
}

/// The newest that was seen of each identity.
#[async_trait]
pub(crate) trait SiteStore {
    /// What was seen of one identity.
    async fn site(&self, identity: Digest) -> Result<Option<SiteRow>, StoreError>;

    /// Keeps what was seen in place of what was seen before.
    async fn keep_site(&self, row: &SiteRow) -> Result<(), StoreError>;
}

#[async_trait]
impl SiteStore for SqliteStore {
    async fn site(&self, identity: Digest) -> Result<Option<SiteRow>, StoreError> {
        let found: Option<(String, Option<Vec<u8>>, i64)> = self
            .within(
                sqlx::query_as("SELECT seen, record, fetched_at FROM sites WHERE identity = ?")
                    .bind(identity.to_string())
                    .fetch_optional(&self.database),
            )
            .await?;
        let Some((seen, record, fetched_at)) = found else {
            return Ok(None);
        };
        let seen = serde_json::from_str(&seen)
            .map_err(|error| self.corrupt(format!("the site {identity}: {error}")))?;
        Ok(Some(SiteRow {
            identity,
            seen,
            record,
            fetched_at: self.time(fetched_at)?,
        }))
    }

    async fn keep_site(&self, row: &SiteRow) -> Result<(), StoreError> {
        let seen = serde_json::to_string(&row.seen)
            .map_err(|error| self.corrupt(format!("the site {}: {error}", row.identity)))?;
        self.within(
            sqlx::query(
                "INSERT INTO sites (identity, seen, record, fetched_at) VALUES (?, ?, ?, ?)
             ON CONFLICT (identity) DO UPDATE SET seen = excluded.seen,
                 record = excluded.record, fetched_at = excluded.fetched_at",
            )
            .bind(row.identity.to_string())
            .bind(seen)
            .bind(row.record.as_deref())
            .bind(row.fetched_at.unix_timestamp())
            .execute(&self.database),
        )
        .await
        .map(|_| ())
    }
}
