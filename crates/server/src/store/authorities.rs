//! The CA certificates and the sequence of the bundle that they make up. Whatever changes the
//! bundle's content raises its sequence in the same transaction.

use std::time::Duration;

use async_trait::async_trait;
use renkei_api::status::CaState;
use rustls_pki_types::CertificateDer;
use sqlx::{Sqlite, Transaction};
use time::OffsetDateTime;

use super::{SqliteStore, StoreError};

/// A CA certificate as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CaRow {
    pub(crate) id: String,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) state: CaState,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    /// Absent once the key has been deleted.
    pub(crate) key_file: Option<String>,
}

/// Undone unless it is committed.
type Change = Transaction<'static, Sqlite>;

type Columns = (String, Vec<u8>, String, i64, i64, Option<String>);

/// The CA certificates, and the sequence of the bundle that they make up.
#[async_trait]
pub(crate) trait AuthorityStore: Send + Sync {
    /// Every CA, the oldest first.
    async fn authorities(&self) -> Result<Vec<CaRow>, StoreError>;

    /// The sequence of the own bundle and the refresh hint last published with it.
    async fn bundle_state(&self) -> Result<(u64, Duration), StoreError>;

    /// Remembers the refresh hint, for readers of the folder.
    async fn set_refresh_hint(&self, hint: Duration) -> Result<(), StoreError>;

    /// Adds a CA, which changes the bundle. The active CA that it replaces becomes an old one in
    /// the same change.
    async fn add_authority(&self, ca: &CaRow, replaced: Option<&str>) -> Result<(), StoreError>;

    /// The prepared CA becomes the one that signs. The bundle's content stays the same.
    async fn activate_prepared(&self, id: &str) -> Result<(), StoreError>;

    /// A CA that is not valid yet is not waited for: nothing is prepared from now on.
    async fn set_prepared_aside(&self, id: &str) -> Result<(), StoreError>;

    /// An old CA signs again in place of the active one, which stays. The bundle's content stays
    /// the same.
    async fn reinstate(&self, id: &str) -> Result<(), StoreError>;

    /// Notes that the key of an old CA is gone.
    async fn forget_key(&self, id: &str) -> Result<(), StoreError>;

    /// Takes out old CAs that ended, which changes the bundle if there are any.
    async fn remove_ended(&self, now: OffsetDateTime) -> Result<(), StoreError>;
}

#[async_trait]
impl AuthorityStore for SqliteStore {
    async fn authorities(&self) -> Result<Vec<CaRow>, StoreError> {
        let rows: Vec<Columns> = self
            .within(
                sqlx::query_as(
                    "SELECT id, certificate, state, not_before, not_after, key_file
             FROM authorities ORDER BY not_before, rowid",
                )
                .fetch_all(&self.database),
            )
            .await?;
        rows.into_iter().map(|row| self.ca_row(row)).collect()
    }

    async fn bundle_state(&self) -> Result<(u64, Duration), StoreError> {
        let (sequence, hint): (i64, i64) = self
            .within(
                sqlx::query_as("SELECT sequence, refresh_hint FROM bundle")
                    .fetch_one(&self.database),
            )
            .await?;
        let negative = |_| self.corrupt("a negative number in the table bundle".to_owned());
        let sequence = u64::try_from(sequence).map_err(negative)?;
        Ok((
            sequence,
            Duration::from_secs(u64::try_from(hint).map_err(negative)?),
        ))
    }

    async fn set_refresh_hint(&self, hint: Duration) -> Result<(), StoreError> {
        self.within(
            sqlx::query("UPDATE bundle SET refresh_hint = ?")
                .bind(i64::try_from(hint.as_secs()).unwrap_or(i64::MAX))
                .execute(&self.database),
        )
        .await
        .map(|_| ())
    }

    async fn add_authority(&self, ca: &CaRow, replaced: Option<&str>) -> Result<(), StoreError> {
        let add = async {
            let mut change = self.begin().await?;
            if let Some(id) = replaced {
                self.turn(&mut change, id, CaState::Active, CaState::Old)
                    .await?;
            }
            sqlx::query(
                "INSERT INTO authorities (id, certificate, state, not_before, not_after, key_file)
                 VALUES (?, ?, ?, ?, ?, ?)",
            )
            .bind(&ca.id)
            .bind(ca.certificate.as_ref())
            .bind(ca.state.as_str())
            .bind(ca.not_before.unix_timestamp())
            .bind(ca.not_after.unix_timestamp())
            .bind(&ca.key_file)
            .execute(&mut *change)
            .await
            .map_err(|error| self.error(error))?;
            self.raise_sequence(&mut change).await?;
            self.commit(change).await
        };
        self.bounded(add).await
    }

    async fn activate_prepared(&self, id: &str) -> Result<(), StoreError> {
        self.bounded(self.let_sign(id, CaState::Prepared)).await
    }

    async fn set_prepared_aside(&self, id: &str) -> Result<(), StoreError> {
        let set_aside = async {
            let mut change = self.begin().await?;
            self.turn(&mut change, id, CaState::Prepared, CaState::Old)
                .await?;
            self.commit(change).await
        };
        self.bounded(set_aside).await
    }

    async fn reinstate(&self, id: &str) -> Result<(), StoreError> {
        self.bounded(self.let_sign(id, CaState::Old)).await
    }

    async fn forget_key(&self, id: &str) -> Result<(), StoreError> {
        self.within(
            sqlx::query("UPDATE authorities SET key_file = NULL WHERE id = ?")
                .bind(id)
                .execute(&self.database),
        )
        .await
        .map(|_| ())
    }

    async fn remove_ended(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        let remove = async {
            let mut change = self.begin().await?;
            let old = "DELETE FROM authorities WHERE state = 'old' AND not_after <= ?";
            let removed = sqlx::query(old)
                .bind(now.unix_timestamp())
                .execute(&mut *change)
                .await
                .map_err(|error| self.error(error))?;
            if removed.rows_affected() == 0 {
                return Ok(());
            }
            self.raise_sequence(&mut change).await?;
            self.commit(change).await
        };
        self.bounded(remove).await
    }
}

impl SqliteStore {
    async fn begin(&self) -> Result<Change, StoreError> {
        let begun = self.database.begin_with("BEGIN IMMEDIATE").await;
        begun.map_err(|error| self.error(error))
    }

    async fn commit(&self, change: Change) -> Result<(), StoreError> {
        change.commit().await.map_err(|error| self.error(error))
    }

    /// Another CA signs in place of the active one, or none of the two changes.
    async fn let_sign(&self, id: &str, before: CaState) -> Result<(), StoreError> {
        let mut change = self.begin().await?;
        sqlx::query("UPDATE authorities SET state = 'old' WHERE state = 'active' AND id <> ?")
            .bind(id)
            .execute(&mut *change)
            .await
            .map_err(|error| self.error(error))?;
        self.turn(&mut change, id, before, CaState::Active).await?;
        self.commit(change).await
    }

    /// Changes the state of a CA that has the state which the caller knows.
    async fn turn(
        &self,
        change: &mut Change,
        id: &str,
        before: CaState,
        after: CaState,
    ) -> Result<(), StoreError> {
        let turned = sqlx::query("UPDATE authorities SET state = ? WHERE id = ? AND state = ?")
            .bind(after.as_str())
            .bind(id)
            .bind(before.as_str())
            .execute(&mut **change)
            .await
            .map_err(|error| self.error(error))?;
        if turned.rows_affected() == 1 {
            return Ok(());
        }
        Err(StoreError::Changed {
            path: self.path.clone(),
            id: id.to_owned(),
            expected: before.as_str(),
        })
    }

    async fn raise_sequence(&self, change: &mut Change) -> Result<(), StoreError> {
        sqlx::query("UPDATE bundle SET sequence = sequence + 1")
            .execute(&mut **change)
            .await
            .map_err(|error| self.error(error))?;
        Ok(())
    }

    fn ca_row(&self, row: Columns) -> Result<CaRow, StoreError> {
        let (id, certificate, state, not_before, not_after, key_file) = row;
        let state = CaState::parse(&state)
            .ok_or_else(|| self.corrupt(format!("{state:?} is not a state of a CA")))?;
        Ok(CaRow {
            certificate: CertificateDer::from(certificate),
            not_before: self.time(not_before)?,
            not_after: self.time(not_after)?,
            id,
            state,
            key_file,
        })
    }
}
