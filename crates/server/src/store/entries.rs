//! Registration entries as they were last derived from the site file, with the moment each of
//! them first appeared.

use std::collections::{BTreeMap, BTreeSet};

use renkei_spiffe::SpiffeId;
use time::OffsetDateTime;

use super::{Store, StoreError};
use crate::entries::Entry;

impl Store {
    /// Makes the table equal to `wanted`; what stays keeps its `since`.
    pub(crate) async fn replace_entries(
        &self,
        wanted: &[Entry],
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let replace = async {
            let mut change = self.database.begin_with("BEGIN IMMEDIATE").await?;
            let known: Vec<String> = sqlx::query_scalar("SELECT spiffe_id FROM entries")
                .fetch_all(&mut *change)
                .await?;
            let kept: BTreeSet<String> = wanted.iter().map(|e| e.id.to_string()).collect();
            for gone in known.iter().filter(|id| !kept.contains(*id)) {
                sqlx::query("DELETE FROM entries WHERE spiffe_id = ?")
                    .bind(gone)
                    .execute(&mut *change)
                    .await?;
            }
            for entry in wanted {
                sqlx::query(
                    "INSERT INTO entries (spiffe_id, kind, selectors, since) VALUES (?, ?, ?, ?)
                     ON CONFLICT (spiffe_id)
                     DO UPDATE SET kind = excluded.kind, selectors = excluded.selectors",
                )
                .bind(entry.id.to_string())
                .bind(entry.kind.as_str())
                .bind(serde_json::json!(entry.selectors).to_string())
                .bind(now.unix_timestamp())
                .execute(&mut *change)
                .await?;
            }
            change.commit().await
        };
        replace.await.map_err(|error| self.error(error))
    }

    /// Since when each entry has been there.
    pub(crate) async fn entries_since(
        &self,
    ) -> Result<BTreeMap<SpiffeId, OffsetDateTime>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT spiffe_id, since FROM entries")
            .fetch_all(&self.database)
            .await
            .map_err(|error| self.error(error))?;
        rows.into_iter()
            .map(|(id, since)| {
                let id = SpiffeId::parse(&id).map_err(|e| self.corrupt(format!("{id:?}: {e}")))?;
                Ok((id, self.time(since)?))
            })
            .collect()
    }
}
