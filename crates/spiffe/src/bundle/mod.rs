//! Trust bundles (SPIFFE_Trust_Domain_and_Bundle section 4): what a trust domain's certificates
//! are checked against.

mod document;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;

pub use document::{DocumentError, MAX_DOCUMENT_BYTES};

use crate::{JwtAuthority, TrustDomain};

/// The keys of one trust domain. An empty bundle trusts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Whose keys these are. The document itself does not say; the reader of it must know.
    pub trust_domain: TrustDomain,
    /// Self-signed CA certificates, DER.
    pub x509_authorities: Vec<CertificateDer<'static>>,
    /// Keys that sign JWT-SVIDs, carried for others and never used here.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// `spiffe_sequence`: only ever rises.
    pub sequence: Option<u64>,
    /// `spiffe_refresh_hint`: how often readers should ask again.
    pub refresh_hint: Option<Duration>,
}

impl Bundle {
    /// A bundle that trusts nothing.
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            sequence: None,
            refresh_hint: None,
        }
    }
}

/// The bundles of every trust domain known here, each under its own name. There is no way to ask
/// for all authorities at once: pooling roots would let one site speak for another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleSet(BTreeMap<TrustDomain, Arc<Bundle>>);

impl BundleSet {
    /// The bundle of one trust domain.
    pub fn get(&self, trust_domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        self.0.get(trust_domain)
    }

    /// Puts a bundle in, in place of an older one of the same trust domain.
    pub fn insert(&mut self, bundle: Arc<Bundle>) {
        self.0.insert(bundle.trust_domain.clone(), bundle);
    }

    /// Takes a trust domain out: from now on it is unknown.
    pub fn remove(&mut self, trust_domain: &TrustDomain) {
        self.0.remove(trust_domain);
    }

    /// Every bundle, ordered by trust domain.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.0.values()
    }
}

impl FromIterator<Arc<Bundle>> for BundleSet {
    fn from_iter<T: IntoIterator<Item = Arc<Bundle>>>(bundles: T) -> Self {
        Self(
            bundles
                .into_iter()
                .map(|b| (b.trust_domain.clone(), b))
                .collect(),
        )
    }
}
