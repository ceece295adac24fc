//! Join tokens, and the nodes that have joined. Of a token only its hash is kept.

use async_trait::async_trait;
use renkei_spiffe::SpiffeId;
use time::{Duration, OffsetDateTime};

use super::{SqliteStore, StoreError};

/// How long a token that has expired is remembered, so that the error can say why it fails.
const REMEMBERED: Duration = Duration::days(7);

/// A join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRow {
    /// SHA-256 of the token.
    pub(crate) hash: [u8; 32],
    /// The Renkei node that may join with it; none for a SPIRE agent, which is named after its
    /// token.
    pub(crate) node: Option<String>,
    pub(crate) ends_at: OffsetDateTime,
}

/// What became of the use of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TokenUse {
    /// It was good, and is not any more.
    Taken(TokenRow),
    /// There is no such token.
    Unknown,
    /// It was used before, at this time.
    Used(OffsetDateTime),
    /// It expired at this time.
    Expired(OffsetDateTime),
}

/// A node that has joined: a Renkei node or a SPIRE agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentRow {
    pub(crate) id: SpiffeId,
    /// How it proved itself: `join_token`.
    pub(crate) attestor: String,
    /// The serial of the SVID that it uses.
    pub(crate) serial: String,
    /// The serial of the SVID that it was issued last and has not used yet. Its answer may have
    /// been lost, so both are good until one of the two is used.
    pub(crate) next_serial: Option<String>,
    /// When the SVID that was issued last expires.
    pub(crate) not_after: OffsetDateTime,
    pub(crate) attested_at: OffsetDateTime,
    /// Refused for good.
    pub(crate) banned: bool,
    /// The release that it runs, as it says.
    pub(crate) release: String,
}

type TokenColumns = (Option<String>, i64, Option<i64>);

type AgentColumns = (
    String,
    String,
    String,
    Option<String>,
    i64,
    i64,
    bool,
    String,
);

/// Join tokens and nodes.
#[async_trait]
pub(crate) trait NodeStore {
    /// Keeps a new token.
    async fn keep_token(&self, token: &TokenRow) -> Result<(), StoreError>;

    /// Uses a token up. Of several who use it at once, one gets it.
    async fn take_token(
        &self,
        hash: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<TokenUse, StoreError>;

    /// Forgets tokens that expired a while ago.
    async fn prune_tokens(&self, now: OffsetDateTime) -> Result<(), StoreError>;

    /// The nodes that have joined. One that cannot be read is left out, and must join again.
    async fn agents(&self) -> Result<Vec<AgentRow>, StoreError>;

    /// Keeps a node in place of what was known of it.
    async fn keep_agent(&self, agent: &AgentRow) -> Result<(), StoreError>;

    /// Forgets a node, which must join again.
    async fn remove_agent(&self, id: &SpiffeId) -> Result<(), StoreError>;
}

#[async_trait]
impl NodeStore for SqliteStore {
    async fn keep_token(&self, token: &TokenRow) -> Result<(), StoreError> {
        self.within(
            sqlx::query("INSERT INTO join_tokens (hash, node, ends_at) VALUES (?, ?, ?)")
                .bind(token.hash.to_vec())
                .bind(&token.node)
                .bind(token.ends_at.unix_timestamp())
                .execute(&self.database),
        )
        .await
        .map(|_| ())
    }

    async fn take_token(
        &self,
        hash: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<TokenUse, StoreError> {
        // Who guesses tokens only reads: a write would wait for all others, and they for it.
        match self.token_use(hash, now).await? {
            TokenUse::Taken(_) => {}
            other => return Ok(other),
        }
        let taken: Option<TokenColumns> = self
            .within(
                sqlx::query_as(
                    "UPDATE join_tokens SET used_at = ?
                     WHERE hash = ? AND used_at IS NULL AND ends_at > ?
                     RETURNING node, ends_at, used_at",
                )
                .bind(now.unix_timestamp())
                .bind(hash.to_vec())
                .bind(now.unix_timestamp())
                .fetch_optional(&self.database),
            )
            .await?;
        match taken {
            Some((node, ends_at, _)) => Ok(TokenUse::Taken(TokenRow {
                hash: *hash,
                node,
                ends_at: self.time(ends_at)?,
            })),
            // Another one was faster.
            None => match self.token_use(hash, now).await? {
                TokenUse::Taken(_) => Ok(TokenUse::Used(now)),
                other => Ok(other),
            },
        }
    }

    async fn prune_tokens(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        self.within(
            sqlx::query("DELETE FROM join_tokens WHERE ends_at < ?")
                .bind((now - REMEMBERED).unix_timestamp())
                .execute(&self.database),
        )
        .await
        .map(|_| ())
    }

    async fn agents(&self) -> Result<Vec<AgentRow>, StoreError> {
        let rows: Vec<AgentColumns> = self
            .within(
                sqlx::query_as(
                    "SELECT spiffe_id, attestor, serial, next_serial, not_after, attested_at,
                            banned, release
                     FROM agents ORDER BY spiffe_id",
                )
                .fetch_all(&self.database),
            )
            .await?;
        let read = |row| match self.agent_row(row) {
            Ok(row) => Some(row),
            Err(error) => {
                tracing::error!(%error, "a node is left out: it must join again");
                None
            }
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    async fn keep_agent(&self, agent: &AgentRow) -> Result<(), StoreError> {
        self.within(
            sqlx::query(
                "INSERT INTO agents (spiffe_id, attestor, serial, next_serial, not_after,
                                     attested_at, banned, release)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (spiffe_id) DO UPDATE SET attestor = excluded.attestor,
                     serial = excluded.serial, next_serial = excluded.next_serial,
                     not_after = excluded.not_after, attested_at = excluded.attested_at,
                     banned = excluded.banned, release = excluded.release",
            )
            .bind(agent.id.to_string())
            .bind(&agent.attestor)
            .bind(&agent.serial)
            .bind(&agent.next_serial)
            .bind(agent.not_after.unix_timestamp())
            .bind(agent.attested_at.unix_timestamp())
            .bind(agent.banned)
            .bind(&agent.release)
            .execute(&self.database),
        )
        .await
        .map(|_| ())
    }

    async fn remove_agent(&self, id: &SpiffeId) -> Result<(), StoreError> {
        self.within(
            sqlx::query("DELETE FROM agents WHERE spiffe_id = ?")
                .bind(id.to_string())
                .execute(&self.database),
        )
        .await
        .map(|_| ())
    }
}

impl SqliteStore {
    /// What the use of a token would be: `Taken` if it is still good.
    async fn token_use(
        &self,
        hash: &[u8; 32],
        now: OffsetDateTime,
    ) -> Result<TokenUse, StoreError> {
        let known: Option<TokenColumns> = self
            .within(
                sqlx::query_as("SELECT node, ends_at, used_at FROM join_tokens WHERE hash = ?")
                    .bind(hash.to_vec())
                    .fetch_optional(&self.database),
            )
            .await?;
        let Some((node, ends_at, used_at)) = known else {
            return Ok(TokenUse::Unknown);
        };
        let ends_at = self.time(ends_at)?;
        Ok(match used_at {
            Some(used_at) => TokenUse::Used(self.time(used_at)?),
            None if ends_at <= now => TokenUse::Expired(ends_at),
            None => TokenUse::Taken(TokenRow {
                hash: *hash,
                node,
                ends_at,
            }),
        })
    }

    fn agent_row(&self, columns: AgentColumns) -> Result<AgentRow, StoreError> {
        let (id, attestor, serial, next_serial, not_after, attested_at, banned, release) = columns;
        let parsed = SpiffeId::parse(&id);
        Ok(AgentRow {
            id: parsed.map_err(|error| self.corrupt(format!("the node {id:?}: {error}")))?,
            attestor,
            serial,
            next_serial,
            not_after: self.time(not_after)?,
            attested_at: self.time(attested_at)?,
            banned,
            release,
        })
    }
}
