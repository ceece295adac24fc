//! Trust bundles (SPIFFE_Trust_Domain_and_Bundle section 4): what a trust domain's certificates
//! are checked against.

mod document;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

pub use document::{DocumentError, MAX_DOCUMENT_BYTES};

use crate::{JwtAuthority, TrustDomain, x509::certificate};

/// An authority that lives for years needs no successor until then.
const EARLIEST_WARNING: time::Duration = time::Duration::days(30);

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

    /// The validity of the X.509 authority that expires last; none without an authority.
    pub fn end(&self) -> Option<BundleEnd> {
        let ends = self.x509_authorities.iter().filter_map(|der| {
            let certificate = certificate::read(der).ok()?;
            let validity = certificate.validity();
            Some(BundleEnd {
                not_before: validity.not_before.to_datetime(),
                not_after: validity.not_after.to_datetime(),
            })
        });
        ends.max_by_key(|end| end.not_after)
    }
}

/// The validity of the authority of a bundle that expires last. Afterwards the bundle verifies
/// no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BundleEnd {
    /// When the authority became valid.
    pub not_before: OffsetDateTime,
    /// When the authority expires.
    pub not_after: OffsetDateTime,
}

impl BundleEnd {
    /// From this time on a newer bundle should have come. Renkei and SPIRE publish the next CA at
    /// half of the life of the one before; this is at 7/12 of it, and at the earliest 30 days
    /// before the end.
    pub fn overdue_from(&self) -> OffsetDateTime {
        let life: time::Duration = self.not_after - self.not_before;
        let late: OffsetDateTime = self.not_before + life * 7_i32 / 12_i32;
        late.max(self.not_after - EARLIEST_WARNING)
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

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use time::{Duration, macros::datetime};

    use super::*;

    const START: OffsetDateTime = datetime!(2026-11-23 12:00 UTC);

    fn authority(start: OffsetDateTime, life: Duration) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (start, start + life);
        let key = KeyPair::generate().expect("key");
        params.self_signed(&key).expect("certificate").into()
    }

    #[test]
    fn a_bundle_ends_with_its_last_authority_and_is_overdue_well_before() {
        let mut bundle = Bundle::empty(TrustDomain::parse("osaka.example").expect("a name"));
        assert_eq!(bundle.end(), None);
        let day = Duration::days(1);
        let next = START + day / 2;
        bundle.x509_authorities = vec![authority(next, day), authority(START, day)];
        let end = bundle.end().expect("an end");
        assert_eq!((end.not_before, end.not_after), (next, next + day));
        assert_eq!(end.overdue_from(), next + Duration::hours(14));
        let years = Duration::days(3_650);
        bundle.x509_authorities = vec![authority(START, years)];
        let end = bundle.end().expect("an end");
        assert_eq!(end.overdue_from(), START + years - Duration::days(30));
    }
}
