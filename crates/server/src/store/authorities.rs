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

type Columns = (String, Vec<u8>, String, i64, i64, Option<String>);

/// The CA certificates, and the sequence of the bundle that they make up.
#[async_trait]
pub(crate) trait AuthorityStore {
    /// Every CA, the oldest first.
    async fn authorities(&self) -> Result<Vec<CaRow>, StoreError>;

    /// The sequence of the own bundle and the refresh hint last published with it.
    async fn bundle_state(&self) -> Result<(u64, Duration), StoreError>;

    /// Remembers the refresh hint, for readers of the folder.
    async fn set_refresh_hint(&self, hint: Duration) -> Result<(), StoreError>;

    /// Adds a CA, which changes the bundle.
    async fn add_authority(&self, ca: &CaRow) -> Result<(), StoreError>;

    /// The prepared CA becomes the one that signs. The bundle's content stays the same.
    async fn activate_prepared(&self) -> Result<(), StoreError>;

    /// A CA that is not valid yet is not waited for: nothing is prepared from now on.
    async fn set_prepared_aside(&self) -> Result<(), StoreError>;

    /// An old CA signs again in place of the active one, which stays. The bundle's content stays
    /// the same.
    async fn reinstate(&self, id: &str) -> Result<(), StoreError>;

    /// The active CA becomes an old one.
    async fn set_active_aside(&self) -> Result<(), StoreError>;

    /// Notes that the key of an old CA is gone.
    async fn forget_key(&self, id: &str) -> Result<(), StoreError>;

    /// Takes out old CAs that ended, which changes the bundle.
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

    async fn add_authority(&self, ca: &CaRow) -> Result<(), StoreError> {
        let add = async {
            let mut change = self.database.begin_with("BEGIN IMMEDIATE").await?;
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
            .await?;
            raise_sequence(&mut change).await?;
            change.commit().await
        };
        self.within(add).await
    }

    async fn activate_prepared(&self) -> Result<(), StoreError> {
        let activate = async {
            let mut change = self.database.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("UPDATE authorities SET state = 'old' WHERE state = 'active'")
                .execute(&mut *change)
                .await?;
            sqlx::query("UPDATE authorities SET state = 'active' WHERE state = 'prepared'")
                .execute(&mut *change)
                .await?;
            change.commit().await
        };
        self.within(activate).await
    }

    async fn set_prepared_aside(&self) -> Result<(), StoreError> {
        self.within(
            sqlx::query("UPDATE authorities SET state = 'old' WHERE state = 'prepared'")
                .execute(&self.database),
        )
        .await
        .map(|_| ())
    }

    async fn reinstate(&self, id: &str) -> Result<(), StoreError> {
        let reinstate = async {
            let mut change = self.database.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("UPDATE authorities SET state = 'old' WHERE state = 'active'")
                .execute(&mut *change)
                .await?;
            sqlx::query("UPDATE authorities SET state = 'active' WHERE id = ?")
                .bind(id)
                .execute(&mut *change)
                .await?;
            change.commit().await
        };
        self.within(reinstate).await
    }

    async fn set_active_aside(&self) -> Result<(), StoreError> {
        self.within(
            sqlx::query("UPDATE authorities SET state = 'old' WHERE state = 'active'")
                .execute(&self.database),
        )
        .await
        .map(|_| ())
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
            let mut change = self.database.begin_with("BEGIN IMMEDIATE").await?;
            sqlx::query("DELETE FROM authorities WHERE state = 'old' AND not_after <= ?")
                .bind(now.unix_timestamp())
                .execute(&mut *change)
                .await?;
            raise_sequence(&mut change).await?;
            change.commit().await
        };
        self.within(remove).await
    }
}

impl SqliteStore {
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

async fn raise_sequence(change: &mut Transaction<'_, Sqlite>) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE bundle SET sequence = sequence + 1")
        .execute(&mut **change)
        .await?;
    Ok(())
}
