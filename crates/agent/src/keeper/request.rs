//! Asking for one SVID: a fresh key, a request signed with it, and a look at what comes back.

use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SanType};
use renkei_api::{
    issue::{CertificateIssuer, IssueError, SvidRequest},
    node::EntryId,
};
use renkei_spiffe::{PeerError, PrivateKey, SpiffeId, SvidError, X509Svid};

/// How long an issuer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no new SVID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The issuer has not signed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// No key or certificate request could be made here.
    #[error("no certificate request could be made: {0}")]
    Request(String),
    /// What the issuer sent is not an X.509-SVID.
    #[error("the issuer sent no SVID: {0}")]
    Svid(#[from] SvidError),
    /// The issuer signed for another ID.
    #[error("the issuer sent an SVID of {0}")]
    OtherId(SpiffeId),
    /// The issuer signed another key.
    #[error("the issuer sent an SVID of another key")]
    OtherKey,
    /// The chain does not lead to the own trust domain's bundle.
    #[error("the issued SVID does not verify here: {0}")]
    Unverifiable(#[source] PeerError),
}

/// A new SVID of an entry, which is to be one of `id`, with a new P-256 key.
pub(super) async fn request(
    issuer: &dyn CertificateIssuer,
    entry: EntryId,
    id: &SpiffeId,
) -> Result<X509Svid, RequestError> {
    let failed = |error: rcgen::Error| RequestError::Request(error.to_string());
    let key = KeyPair::generate().map_err(failed)?;
    let csr = certificate_request(id, &key).map_err(failed)?;
    let answer = tokio::time::timeout(PATIENCE, issuer.issue(SvidRequest { entry, csr })).await;
    let late = |_| IssueError::Unavailable("no answer in time".into());
    let chain = answer.map_err(late)??;
    let signed = chain.first().ok_or(SvidError::Empty)?;
    if !contains(signed, key.der_bytes()) {
        return Err(RequestError::OtherKey);
    }
    let svid = X509Svid::new(chain, PrivateKey::from_pkcs8(key.serialize_der()))?;
    if svid.id() == id {
        Ok(svid)
    } else {
        Err(RequestError::OtherId(svid.id().clone()))
    }
}

fn certificate_request(id: &SpiffeId, key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    Ok(params.serialize_request(key)?.der().to_vec())
}

/// The leaf carries the public key's bytes as they are (RFC 5280 4.1.2.7). A slip of the issuer
/// is found here, before the SVID is published; a handshake would fail later.
fn contains(leaf: &[u8], public_key: &[u8]) -> bool {
    leaf.windows(public_key.len().max(1))
        .any(|window| window == public_key)
}
