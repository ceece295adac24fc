//! The messages of the Workload API, built from the SVIDs and bundles of the keeper.

use std::collections::HashMap;

use renkei_api::workload::{X509BundlesResponse, X509svid, X509svidResponse};
use renkei_runtime::clock;
use renkei_spiffe::{Bundle, Identities, SpiffeId, TrustDomain, X509Svid};
use rustls_pki_types::CertificateDer;

use super::caller::Entitlement;

/// What one caller may have at one moment.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) own: &'a TrustDomain,
    pub(super) identities: &'a Identities,
    pub(super) entitlements: &'a [Entitlement],
}

/// A stream's message: complete each time (SPIFFE_Workload_API 5.2).
pub(super) trait Message: PartialEq + Clone + Send + 'static {
    /// Whether a first message waits for SVIDs that are just being issued.
    const WAITS_FOR_SVIDS: bool;

    fn build(view: &View<'_>) -> Self;
}

impl View<'_> {
    pub(super) fn svid(&self, id: &SpiffeId) -> Option<&X509Svid> {
        let valid = self.identities.valid_svid(id, clock::now());
        valid.ok().map(|svid| &**svid)
    }

    /// Whether every entitlement has its SVID.
    pub(super) fn is_complete(&self) -> bool {
        self.entitlements
            .iter()
            .all(|entitlement| self.svid(&entitlement.id).is_some())
    }

    /// Whether at least one entitlement has its SVID.
    pub(super) fn has_any(&self) -> bool {
        self.entitlements
            .iter()
            .any(|entitlement| self.svid(&entitlement.id).is_some())
    }

    /// Bundles that trust something, keyed by the trust domain's SPIFFE ID. One that trusts
    /// nothing says the same as none.
    fn bundles(&self, chosen: impl Fn(&Bundle) -> bool) -> HashMap<String, Vec<u8>> {
        let bundles = self.identities.bundles.iter();
        bundles
            .filter(|bundle| !bundle.x509_authorities.is_empty() && chosen(bundle))
            .map(|bundle| {
                (
                    bundle.trust_domain.id().to_string(),
                    concatenated(&bundle.x509_authorities),
                )
            })
            .collect()
    }
}

impl Message for X509svidResponse {
    const WAITS_FOR_SVIDS: bool = true;

    fn build(view: &View<'_>) -> Self {
        let own = view.identities.bundles.get(view.own);
        let bundle = own
            .map(|own| concatenated(&own.x509_authorities))
            .unwrap_or_default();
        let svid = |entitlement: &Entitlement| {
            let svid = view.svid(&entitlement.id)?;
            Some(X509svid {
                spiffe_id: entitlement.id.to_string(),
                x509_svid: concatenated(svid.chain()),
                x509_svid_key: svid.key().pkcs8().to_vec(),
                bundle: bundle.clone(),
                hint: entitlement.hint.clone(),
            })
        };
        Self {
            svids: view.entitlements.iter().filter_map(svid).collect(),
            crl: Vec::new(),
            federated_bundles: view.bundles(|bundle| bundle.trust_domain != *view.own),
        }
    }
}

impl Message for X509BundlesResponse {
    const WAITS_FOR_SVIDS: bool = false;

    fn build(view: &View<'_>) -> Self {
        Self {
            crl: Vec::new(),
            bundles: view.bundles(|_| true),
        }
    }
}

fn concatenated(certificates: &[CertificateDer<'_>]) -> Vec<u8> {
    certificates
        .iter()
        .flat_map(|certificate| certificate.iter().copied())
        .collect()
}
