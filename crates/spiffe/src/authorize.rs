//! Who may be the peer of a connection, asked once its certificate has been verified.

use std::fmt::Debug;

use crate::SpiffeId;

/// A refusal by rule, as opposed to a bad certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Denied {
    /// A short, stable name for metrics, such as `not_allowed`.
    pub label: &'static str,
    /// One sentence for people.
    pub reason: String,
}

/// Decides about a verified peer. There is no default: every TLS configuration states one.
pub trait Authorizer: Send + Sync + Debug {
    /// `Ok` lets the handshake complete; `Err` ends it with the alert `access_denied`.
    fn authorize(&self, peer: &SpiffeId) -> Result<(), Denied>;
}

/// Accepts exactly one peer: what an outbound connection demands of its callee.
impl Authorizer for SpiffeId {
    fn authorize(&self, peer: &SpiffeId) -> Result<(), Denied> {
        if peer == self {
            return Ok(());
        }
        Err(Denied {
            label: "unexpected_peer",
            reason: format!("expected {} but the peer is {}", self.short(), peer.short()),
        })
    }
}
