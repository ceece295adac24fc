//! X.509-SVIDs that this side owns, with their private keys.

use std::{fmt, sync::OnceLock};

use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use super::{CertificateFault, SvidCertificate};
use crate::SpiffeId;

/// A private key, PKCS#8 DER. It never shows itself in logs or errors.
pub struct PrivateKey(PrivatePkcs8KeyDer<'static>);

impl PrivateKey {
    /// Wraps PKCS#8 DER bytes.
    pub fn from_pkcs8(der: Vec<u8>) -> Self {
        Self(PrivatePkcs8KeyDer::from(der))
    }

    /// The PKCS#8 DER bytes.
    pub fn pkcs8(&self) -> &[u8] {
        self.0.secret_pkcs8_der()
    }

    /// A copy for rustls.
    pub fn to_rustls(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.0.clone_key())
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

/// Why a chain and a key do not make an SVID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// No certificate at all.
    #[error("the chain is empty")]
    Empty,
    /// The leaf breaks a rule of X509-SVID.
    #[error(transparent)]
    Leaf(#[from] CertificateFault),
}

/// One identity of this side: certificate chain (leaf first, DER) and key.
pub struct X509Svid {
    id: SpiffeId,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKey,
    not_before: OffsetDateTime,
    not_after: OffsetDateTime,
    serial: String,
    certified: OnceLock<CertifiedKey>,
}

impl fmt::Debug for X509Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "X509Svid({}, serial {}, until {})",
            self.id, self.serial, self.not_after
        )
    }
}

impl X509Svid {
    /// Reads the leaf and checks it by the rules of X509-SVID section 5.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKey) -> Result<Self, SvidError> {
        let leaf = SvidCertificate::parse_leaf(chain.first().ok_or(SvidError::Empty)?)?;
        Ok(Self {
            id: leaf.id,
            not_before: leaf.not_before,
            not_after: leaf.not_after,
            serial: leaf.serial,
            certified: OnceLock::new(),
            chain,
            key,
        })
    }

    /// The SPIFFE ID that the leaf carries.
    pub fn id(&self) -> &SpiffeId {
        &self.id
    }

    /// The certificates, the leaf first, then those up to the CA.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The private key of the leaf.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Chain and key for rustls. The key is loaded at the first call and kept; an error means
    /// that it cannot be used, or is not the leaf's.
    pub fn certified_key(&self, provider: &CryptoProvider) -> Result<CertifiedKey, rustls::Error> {
        if let Some(certified) = self.certified.get() {
            return Ok(certified.clone());
        }
        let key = provider
            .key_provider
            .load_private_key(self.key.to_rustls())?;
        let certified = CertifiedKey::new(self.chain.clone(), key);
        certified.keys_match()?;
        Ok(self.certified.get_or_init(|| certified).clone())
    }

    /// When the SVID becomes valid.
    pub fn not_before(&self) -> OffsetDateTime {
        self.not_before
    }

    /// The end of the SVID's validity.
    pub fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Serial number in lower-case hexadecimal digits.
    pub fn serial(&self) -> &str {
        &self.serial
    }
}
