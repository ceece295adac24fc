//! The last good bundle of every peer: what traffic uses while a peer cannot be reached.

use async_trait::async_trait;
use renkei_spiffe::{Bundle, TrustDomain};
use time::OffsetDateTime;

use super::{SqliteStore, StoreError};

/// A peer's bundle as cached.
#[derive(Debug, Clone)]
pub(crate) struct PeerRow {
    pub(crate) bundle: Bundle,
    pub(crate) fetched_at: OffsetDateTime,
    /// SHA-256 of the bootstrap file that trust in this peer started from.
    pub(crate) bootstrap: Option<[u8; 32]>,
}

type Columns = (String, String, i64, Option<Vec<u8>>);

/// The last good bundles of peers.
#[async_trait]
pub(crate) trait PeerStore {
    /// Every cached bundle. One that cannot be read is as good as none: it will be fetched again.
    async fn peer_bundles(&self) -> Result<Vec<PeerRow>, StoreError>;

    /// The cached bundle of one peer.
    async fn peer_bundle(&self, trust_domain: &TrustDomain) -> Result<Option<PeerRow>, StoreError>;

    /// Keeps a peer's bundle in place of the one before.
    async fn keep_peer_bundle(&self, row: &PeerRow) -> Result<(), StoreError>;

    /// Forgets a trust domain that is no longer a peer.
    async fn forget_peer(&self, trust_domain: &TrustDomain) -> Result<(), StoreError>;
}

#[async_trait]
impl PeerStore for SqliteStore {
    async fn peer_bundles(&self) -> Result<Vec<PeerRow>, StoreError> {
        let rows: Vec<Columns> = self
            .within(
                sqlx::query_as(
                    "SELECT trust_domain, document, fetched_at, bootstrap FROM peer_bundles",
                )
                .fetch_all(&self.database),
            )
            .await?;
        let read = |row| match self.peer_row(row) {
            Ok(row) => Some(row),
            Err(error) => {
                tracing::error!(%error, "a cached bundle is ignored");
                None
            }
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    async fn peer_bundle(&self, trust_domain: &TrustDomain) -> Result<Option<PeerRow>, StoreError> {
        let all = self.peer_bundles().await?;
        Ok(all
            .into_iter()
            .find(|row| row.bundle.trust_domain == *trust_domain))
    }

    async fn keep_peer_bundle(&self, row: &PeerRow) -> Result<(), StoreError> {
        self.within(
            sqlx::query(
                "INSERT INTO peer_bundles (trust_domain, sequence, document, fetched_at, bootstrap)
             VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (trust_domain) DO UPDATE SET sequence = excluded.sequence,
                 document = excluded.document, fetched_at = excluded.fetched_at,
                 bootstrap = excluded.bootstrap",
            )
            .bind(row.bundle.trust_domain.as_str())
            .bind(row.bundle.sequence.map(|sequence| sequence.to_string()))
            .bind(row.bundle.to_document())
            .bind(row.fetched_at.unix_timestamp())
            .bind(row.bootstrap.map(|hash| hash.to_vec()))
            .execute(&self.database),
        )
        .await
        .map(|_| ())
    }

    async fn forget_peer(&self, trust_domain: &TrustDomain) -> Result<(), StoreError> {
        self.within(
            sqlx::query("DELETE FROM peer_bundles WHERE trust_domain = ?")
                .bind(trust_domain.as_str())
                .execute(&self.database),
        )
        .await
        .map(|_| ())
    }
}

impl SqliteStore {
    fn peer_row(&self, columns: Columns) -> Result<PeerRow, StoreError> {
        let (name, document, fetched_at, bootstrap) = columns;
        let trust_domain = TrustDomain::parse(&name)
            .map_err(|error| self.corrupt(format!("{name:?}: {error}")))?;
        let bundle = Bundle::parse_document(trust_domain, document.as_bytes())
            .map_err(|error| self.corrupt(format!("the bundle of {name}: {error}")))?;
        Ok(PeerRow {
            bundle,
            fetched_at: self.time(fetched_at)?,
            bootstrap: bootstrap.and_then(|hash| hash.try_into().ok()),
        })
    }
}
