//! From an agent's message to checked values.

use std::sync::Arc;

use renkei_api::workload::{X509svid, X509svidResponse};
use renkei_spiffe::{
    Bundle, BundleSet, IdError, PrivateKey, SpiffeId, SvidError, TrustDomain, X509Svid,
};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;

use super::Update;

/// The most SVIDs of one message.
const MAX_SVIDS: usize = 10_000;
/// The most certificates of one chain or bundle.
const MAX_CERTIFICATES: usize = 1_000;
/// DER: SEQUENCE, which every certificate is.
const SEQUENCE: u8 = 0x30;

/// What is wrong with a message. Texts from the message appear in it, keys never.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// A message without SVIDs means nothing (SPIFFE_Workload_API 5.2.1).
    #[error("it holds no SVID")]
    NoSvids,
    /// The message has more SVIDs, certificates or bundles than are read.
    #[error("it holds too many SVIDs or certificates")]
    TooMany,
    /// A field that should have a SPIFFE ID or a trust domain has something else.
    #[error("{text:?} is not a SPIFFE ID: {error}")]
    Id {
        /// The text of the field.
        text: String,
        /// The fault that was found.
        error: IdError,
    },
    /// Bundles are keyed by the trust domain's own ID.
    #[error("{0} is not the ID of a trust domain")]
    NotATrustDomain(SpiffeId),
    /// Not concatenated DER certificates.
    #[error("the certificates of {0} are not DER")]
    Der(SpiffeId),
    /// Chain and key make no SVID.
    #[error("the SVID of {id} is bad: {error}")]
    Svid {
        /// Whose it should be.
        id: SpiffeId,
        /// The fault that was found.
        error: SvidError,
    },
    /// The key cannot be used, or is not the certificate's.
    #[error("the key of {id} is bad: {error}")]
    Key {
        /// Whose it should be.
        id: SpiffeId,
        /// What is wrong with it.
        error: rustls::Error,
    },
    /// The certificate names another ID than the message.
    #[error("the SVID of {named} carries the ID {found}")]
    OtherId {
        /// The ID that the message gives.
        named: SpiffeId,
        /// The ID in the certificate.
        found: SpiffeId,
    },
}

/// Checks all of a message; one fault refuses the whole.
pub(super) fn update(
    message: X509svidResponse,
    provider: &CryptoProvider,
) -> Result<Update, DecodeError> {
    match message.svids.len() {
        0 => return Err(DecodeError::NoSvids),
        1..=MAX_SVIDS => {}
        _ => return Err(DecodeError::TooMany),
    }
    let mut bundles = BundleSet::default();
    for (text, certificates) in message.federated_bundles {
        let id = read_id(&text)?;
        if !id.path().is_empty() {
            return Err(DecodeError::NotATrustDomain(id));
        }
        bundles.insert(read_bundle(id.trust_domain(), &certificates)?);
    }
    let mut svids = Vec::with_capacity(message.svids.len());
    for svid in message.svids {
        let (bundle, hint) = (svid.bundle.clone(), svid.hint.clone());
        let svid = read_svid(svid, provider)?;
        bundles.insert(read_bundle(svid.id().trust_domain(), &bundle)?);
        svids.push((hint, Arc::new(svid)));
    }
    Ok(Update {
        svids,
        bundles: Arc::new(bundles),
    })
}

fn read_id(text: &str) -> Result<SpiffeId, DecodeError> {
    SpiffeId::parse(text).map_err(|error| DecodeError::Id {
        text: shortened(text),
        error,
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

fn read_bundle(trust_domain: &TrustDomain, der: &[u8]) -> Result<Arc<Bundle>, DecodeError> {
    let x509_authorities = split(der, &trust_domain.id())?;
    Ok(Arc::new(Bundle {
        x509_authorities,
        ..Bundle::empty(trust_domain.clone())
    }))
}

fn read_svid(svid: X509svid, provider: &CryptoProvider) -> Result<X509Svid, DecodeError> {
    let named = read_id(&svid.spiffe_id)?;
    let chain = split(&svid.x509_svid, &named)?;
    let read =
        X509Svid::new(chain, PrivateKey::from_pkcs8(svid.x509_svid_key)).map_err(|error| {
            DecodeError::Svid {
                id: named.clone(),
                error,
            }
        })?;
    if *read.id() != named {
        return Err(DecodeError::OtherId {
            named,
            found: read.id().clone(),
        });
    }
    match read.certified_key(provider) {
        Ok(_) => Ok(read),
        Err(error) => Err(DecodeError::Key { id: named, error }),
    }
}

/// Takes concatenated DER certificates apart.
fn split(mut der: &[u8], of: &SpiffeId) -> Result<Vec<CertificateDer<'static>>, DecodeError> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        if certificates.len() == MAX_CERTIFICATES {
            return Err(DecodeError::TooMany);
        }
        let length = element_length(der).ok_or_else(|| DecodeError::Der(of.clone()))?;
        let (first, rest) = der
            .split_at_checked(length)
            .ok_or_else(|| DecodeError::Der(of.clone()))?;
        certificates.push(CertificateDer::from(first.to_vec()));
        der = rest;
    }
    Ok(certificates)
}

/// The length of the SEQUENCE that starts here, its head included (X.690 8.1.3).
fn element_length(der: &[u8]) -> Option<usize> {
    let (&SEQUENCE, rest) = der.split_first()? else {
        return None;
    };
    let (&first, rest) = rest.split_first()?;
    if first < 0x80 {
        return Some(usize::from(first) + 2);
    }
    let bytes = usize::from(first & 0x7f);
    if !(1..=3).contains(&bytes) {
        return None;
    }
    let length = rest
        .get(..bytes)?
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    Some(length + 2 + bytes)
}
