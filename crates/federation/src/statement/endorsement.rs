//! A member's word on a newcomer: its operator knows who holds that genesis. It informs people and
//! decides nothing.

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// A member's statement that it knows a newcomer's operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endorsement {
    /// The identity of the member who says it.
    pub by: Digest,
    /// The trust domain of the newcomer.
    pub trust_domain: TrustDomain,
    /// The identity of the newcomer: the digest of its first site root.
    pub genesis: Digest,
}
