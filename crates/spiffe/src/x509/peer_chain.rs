//! A peer's certificate chain, kept so that it can be verified again while what it opened is open:
//! certificates end, and authorities leave bundles.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use super::{PeerError, SvidCertificate, certificate, verify_peer};
use crate::{BundleSet, SpiffeId};

/// The chain that a peer presented, leaf first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChain {
    leaf: SvidCertificate,
    chain: Vec<CertificateDer<'static>>,
}

impl PeerChain {
    /// Reads the leaf of a chain. Says nothing yet about who signed it.
    pub fn new(chain: &[CertificateDer<'_>]) -> Result<Self, PeerError> {
        let leaf = chain.first().ok_or(PeerError::NoCertificate)?;
        Ok(Self {
            leaf: SvidCertificate::parse_leaf(leaf)?,
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
        })
    }

    /// The leaf in DER.
    pub fn leaf(&self) -> &[u8] {
        self.chain.first().map_or(&[], |leaf| leaf)
    }

    /// The SPIFFE ID of the leaf.
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// Start of the leaf's validity.
    pub fn not_before(&self) -> OffsetDateTime {
        self.leaf.not_before
    }

    /// End of the leaf's validity.
    pub fn not_after(&self) -> OffsetDateTime {
        self.leaf.not_after
    }

    /// What a new handshake with this chain would find at the time `now`.
    pub fn verify(
        &self,
        bundles: &BundleSet,
        now: OffsetDateTime,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> Result<(), PeerError> {
        verify_peer(&self.chain, bundles, now, algorithms).map(drop)
    }

    /// Until when the answer of [`verify`](Self::verify) stays the same if `bundles` do: one of
    /// the certificates that it may have used ends then.
    pub fn settled_until(&self, bundles: &BundleSet, now: OffsetDateTime) -> OffsetDateTime {
        let bundle = bundles.get(self.leaf.id.trust_domain());
        let authorities = bundle.iter().flat_map(|bundle| &bundle.x509_authorities);
        let others = self.chain.iter().skip(1).chain(authorities);
        let ends = others.filter_map(|der| {
            let end = certificate::read(der).ok()?.validity().not_after;
            // A certificate is valid throughout its last second (RFC 5280 4.1.2.5).
            let over = end.to_datetime() + Duration::SECOND;
            (over > now).then_some(over)
        });
        ends.min()
            .map_or(self.leaf.not_after, |end| end.min(self.leaf.not_after))
    }
}
