//! The record of issued SVIDs, kept until they end.

use async_trait::async_trait;
use renkei_spiffe::SpiffeId;
use time::OffsetDateTime;

use super::{SqliteStore, StoreError};

#[derive(Debug, Clone)]
pub(crate) struct IssuedRow {
    /// In lower-case hexadecimal digits.
    pub(crate) serial: String,
    pub(crate) id: SpiffeId,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    pub(crate) issued_at: OffsetDateTime,
}

/// The record of issued SVIDs.
#[async_trait]
pub(crate) trait IssuedStore {
    /// Puts an SVID on record.
    async fn record_issued(&self, row: &IssuedRow) -> Result<(), StoreError>;

    /// Drops the records of SVIDs that have ended.
    async fn prune_issued(&self, now: OffsetDateTime) -> Result<u64, StoreError>;

    /// How many SVIDs on record have not ended yet.
    async fn valid_svids(&self, now: OffsetDateTime) -> Result<u64, StoreError>;
}

#[async_trait]
impl IssuedStore for SqliteStore {
    async fn record_issued(&self, row: &IssuedRow) -> Result<(), StoreError> {
        self.within(
            sqlx::query(
                "INSERT INTO issued (serial, spiffe_id, not_before, not_after, issued_at)
             VALUES (?, ?, ?, ?, ?)",
            )
            .bind(&row.serial)
            .bind(row.id.to_string())
            .bind(row.not_before.unix_timestamp())
            .bind(row.not_after.unix_timestamp())
            .bind(row.issued_at.unix_timestamp())
            .execute(&self.database),
        )
        .await
        .map(|_| ())
    }

    async fn prune_issued(&self, now: OffsetDateTime) -> Result<u64, StoreError> {
        self.within(
            sqlx::query("DELETE FROM issued WHERE not_after <= ?")
                .bind(now.unix_timestamp())
                .execute(&self.database),
        )
        .await
        .map(|done| done.rows_affected())
    }

    async fn valid_svids(&self, now: OffsetDateTime) -> Result<u64, StoreError> {
        let count: i64 = self
            .within(
                sqlx::query_scalar("SELECT count(*) FROM issued WHERE not_after > ?")
                    .bind(now.unix_timestamp())
                    .fetch_one(&self.database),
            )
            .await?;
        Ok(count.unsigned_abs())
    }
}
