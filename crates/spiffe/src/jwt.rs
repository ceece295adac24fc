//! JWT-SVIDs. Only the keys that sign them are known here, as bundles carry them.

/// A JWT signing key of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAuthority {
    /// `kid`.
    pub key_id: String,
    /// The whole JWK, as it was read.
    pub jwk: serde_json::Value,
}
