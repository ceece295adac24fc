//! How a node proves which node it is.

use async_trait::async_trait;
use renkei_spiffe::SpiffeId;
use time::OffsetDateTime;

use crate::store::StoreError;

/// A node that has proved itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attested {
    pub(crate) id: SpiffeId,
    /// Whether it can prove itself again by the same means.
    pub(crate) can_reattest: bool,
}

/// Why a node has not proved itself. The text is for the node, too.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttestError {
    /// What it sent proves nothing.
    #[error("{0}")]
    Refused(String),
    /// It cannot be judged now.
    #[error("the server's database failed; try again later")]
    Store(#[from] StoreError),
}

/// One kind of proof, such as a join token.
#[async_trait]
pub(crate) trait NodeAttestor: Send + Sync {
    /// The name of the kind in SPIRE's API.
    fn kind(&self) -> &'static str;

    /// Judges what the node has sent.
    async fn attest(&self, payload: &[u8], now: OffsetDateTime) -> Result<Attested, AttestError>;
}
