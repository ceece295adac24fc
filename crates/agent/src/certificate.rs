//! A fresh key, the request for its certificate, and a look at what comes back.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PublicKeyData, SanType};
use renkei_spiffe::{PrivateKey, SpiffeId, SvidError, X509Svid};
use rustls_pki_types::CertificateDer;

/// Why there is no certificate for a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// No key or certificate request could be made here.
    #[error("no certificate request could be made: {0}")]
    Request(String),
    /// What the issuer sent is not an X.509-SVID.
    #[error("the issuer sent no SVID: {0}")]
    Svid(#[from] SvidError),
    /// The issuer signed another key.
    #[error("the issuer sent an SVID of another key")]
    OtherKey,
}

impl From<rcgen::Error> for CertificateError {
    fn from(error: rcgen::Error) -> Self {
        Self::Request(error.to_string())
    }
}

/// A new P-256 key that waits for its certificate.
pub(crate) struct CertificateRequest {
    key: KeyPair,
    csr: Vec<u8>,
}

impl CertificateRequest {
    /// The request names the ID where it is known. The issuer decides what it certifies.
    pub(crate) fn new(id: Option<&SpiffeId>) -> Result<Self, CertificateError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(id) = id {
            params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        }
        let csr = params.serialize_request(&key)?.der().to_vec();
        Ok(Self { key, csr })
    }

    /// The certificate request (PKCS#10, DER).
    pub(crate) fn csr(&self) -> Vec<u8> {
        self.csr.clone()
    }

    /// The SVID of the chain that the issuer has sent.
    pub(crate) fn certified(
        self,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<X509Svid, CertificateError> {
        let signed = chain.first().ok_or(SvidError::Empty)?;
        if !contains(signed, self.key.der_bytes()) {
            return Err(CertificateError::OtherKey);
        }
        let key = PrivateKey::from_pkcs8(self.key.serialize_der());
        Ok(X509Svid::new(chain, key)?)
    }
}

/// The leaf carries the public key's bytes as they are (RFC 5280 4.1.2.7). A slip of the issuer
/// is found here, before the SVID is published; a handshake would fail later.
fn contains(leaf: &[u8], public_key: &[u8]) -> bool {
    leaf.windows(public_key.len().max(1))
        .any(|window| window == public_key)
}
