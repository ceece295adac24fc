//! A site's root keys. The first version is its genesis, whose digest is the site's identity; each
//! later one follows by exactly one version and is signed by the root keys of both.

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Digest, KeySet, PublicKey};

const MAX_KEYS: usize = 16;

/// One version of a site's root keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteRoot {
    /// The trust domain of the site.
    pub trust_domain: TrustDomain,
    /// 1 for the genesis.
    pub version: u64,
    /// The digest of the version before; none for the genesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Digest>,
    /// Kept offline: they sign the next version.
    pub root: KeySet,
    /// Kept at the server: each may sign bundles.
    pub online_keys: Vec<PublicKey>,
    /// Kept apart from the rest: each may withdraw the site.
    #[serde(default)]
    pub recovery_keys: Vec<PublicKey>,
    /// When it ceases to count.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
}

impl SiteRoot {
    pub(super) fn check(&self) -> Result<(), String> {
        if (self.version == 1) != self.prev.is_none() || self.version == 0 {
            return Err("`prev` names the version before, and version 1 has none".into());
        }
        if !self.root.is_sound(MAX_KEYS) {
            return Err(format!(
                "`root` needs 1 to {MAX_KEYS} keys, each once, and a threshold that they reach"
            ));
        }
        if self.online_keys.is_empty()
            || self.online_keys.len() > MAX_KEYS
            || self.recovery_keys.len() > MAX_KEYS
        {
            return Err(format!(
                "`online_keys` needs 1 to {MAX_KEYS} keys, `recovery_keys` at most {MAX_KEYS}"
            ));
        }
        // One key with two tasks would lend the stronger task to the holder of the weaker one.
        let root = &self.root.keys;
        let shared = |key: &PublicKey| root.contains(key) || self.recovery_keys.contains(key);
        if self.online_keys.iter().any(shared) {
            return Err("an online key is also a root or recovery key".into());
        }
        Ok(())
    }
}
