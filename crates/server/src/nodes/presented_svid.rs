//! The SVID that a client of the API has proved in its handshake.

use std::sync::Arc;

use renkei_spiffe::{BundleSet, PeerChain, PeerError, SpiffeId, SvidCertificate};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

/// An SVID that a node has presented, and that was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PresentedSvid {
    pub(crate) id: SpiffeId,
    pub(crate) serial: String,
    pub(crate) not_after: OffsetDateTime,
    chain: Arc<PeerChain>,
}

impl PresentedSvid {
    /// The SVID of a chain, leaf first, that the handshake has verified.
    pub(crate) fn new(chain: &[CertificateDer<'_>]) -> Result<Self, PeerError> {
        let leaf = chain.first().ok_or(PeerError::NoCertificate)?;
        let leaf = SvidCertificate::parse_leaf(leaf)?;
        Ok(Self {
            id: leaf.id,
            serial: leaf.serial,
            not_after: leaf.not_after,
            chain: Arc::new(PeerChain::new(chain)?),
        })
    }

    /// Whether a new handshake would take it: a connection may be open for longer than its CA is in
    /// the bundle. An SVID that starts later was verified after its start. The clock has gone back
    /// since, and the node must be able to renew it.
    pub(crate) fn verify(
        &self,
        bundles: &BundleSet,
        now: OffsetDateTime,
        provider: &CryptoProvider,
    ) -> Result<(), PeerError> {
        let at = now.max(self.chain.not_before());
        let algorithms = &provider.signature_verification_algorithms;
        self.chain.verify(bundles, at, algorithms)
    }
}

#[cfg(test)]
mod tests {
    use renkei_spiffe::{Bundle, TrustDomain};
    use renkei_testkit::TestAuthority;
    use time::Duration;

    use super::*;
    use crate::fixtures::provider;

    fn bundles(authority: &TestAuthority) -> BundleSet {
        let trust_domain = TrustDomain::parse(authority.trust_domain()).unwrap();
        let bundle = Bundle {
            x509_authorities: vec![authority.certificate()],
            ..Bundle::empty(trust_domain)
        };
        BundleSet::from_iter([Arc::new(bundle)])
    }

    #[test]
    fn an_svid_does_not_outlive_its_ca_in_the_bundle() {
        let before = TestAuthority::new("osaka.example");
        let after = TestAuthority::new("osaka.example");
        let issued = before.issue("/renkei/node/store");
        let svid = PresentedSvid::new(&issued.chain).unwrap();
        let now = OffsetDateTime::now_utc();
        let verify = |bundles: &BundleSet, now| svid.verify(bundles, now, &provider());
        assert_eq!(verify(&bundles(&before), now), Ok(()));
        let withdrawn = verify(&bundles(&after), now);
        assert_eq!(withdrawn, Err(PeerError::UntrustedCa(svid.id.clone())));
        assert!(matches!(
            verify(&bundles(&before), now + Duration::days(2)),
            Err(PeerError::Expired { .. })
        ));
        let clock_went_back = verify(&bundles(&before), now - Duration::days(2));
        assert_eq!(clock_went_back, Ok(()), "it must be able to renew");
    }
}
