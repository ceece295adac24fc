//! JWT-SVIDs. Only the keys that sign them are known here, as bundles carry them.

/// A JWT signing key of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtAuthority {
    /// The `kid` of the key (RFC 7517 4.5).
    pub key_id: String,
    /// The whole JWK, as it was read.
    pub jwk: serde_json::Value,
}
