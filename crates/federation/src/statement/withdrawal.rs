//! A site's own end, for ever: its keys are lost or stolen, or it leaves. The name is free for
//! another identity afterwards.

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};

use super::plain;
use crate::Digest;

/// A statement that ends an identity permanently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// The trust domain that withdraws.
    pub trust_domain: TrustDomain,
    /// The identity that is withdrawn.
    pub genesis: Digest,
    /// Why the site withdraws, for people.
    pub reason: String,
}

impl Withdrawal {
    pub(super) fn check(&self) -> Result<(), String> {
        plain("`reason`", &self.reason, 500)
    }
}
