//! What `renkei status` says of a peer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use renkei_api::status::PeerStatus;
use renkei_site::BundleSource;
use renkei_spiffe::{Bundle, TrustDomain};

fn unfetched(trust_domain: &TrustDomain, source: &BundleSource) -> PeerStatus {
    let (profile, source) = match source {
        BundleSource::File(path) => ("file", path.display().to_string()),
        BundleSource::HttpsWeb { url, .. } => ("https_web", url.to_string()),
        BundleSource::HttpsSpiffe { url, .. } => ("https_spiffe", url.to_string()),
        BundleSource::Identity(pinned) => ("identity", pinned.to_string()),
        BundleSource::Federation => ("federation", "the federation's log".to_owned()),
    };
    PeerStatus {
        trust_domain: trust_domain.clone(),
        profile: profile.into(),
        source,
        sequence: None,
        authorities: 0,
        bundle_end: None,
        last_success: None,
        last_error: None,
        next_fetch: None,
        identity: None,
    }
}

/// The state of every peer, written by its loop and read by status.
#[derive(Debug, Clone, Default)]
pub(super) struct PeerStates(Arc<Mutex<BTreeMap<TrustDomain, PeerStatus>>>);

impl PeerStates {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<TrustDomain, PeerStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn start(&self, trust_domain: &TrustDomain, source: &BundleSource) {
        self.lock()
            .insert(trust_domain.clone(), unfetched(trust_domain, source));
    }

    pub(super) fn update(&self, trust_domain: &TrustDomain, change: impl FnOnce(&mut PeerStatus)) {
        if let Some(status) = self.lock().get_mut(trust_domain) {
            change(status);
        }
    }

    /// Shows what the bundle in use has.
    pub(super) fn take(&self, trust_domain: &TrustDomain, bundle: &Bundle) {
        self.update(trust_domain, |status| {
            status.sequence = bundle.sequence;
            status.authorities = bundle.x509_authorities.len();
            status.bundle_end = bundle.end().map(|end| end.not_after);
        });
    }

    /// Shows that no bundle is in use.
    pub(super) fn drop_bundle(&self, trust_domain: &TrustDomain) {
        self.update(trust_domain, |status| {
            (status.sequence, status.authorities, status.bundle_end) = (None, 0, None);
        });
    }

    pub(super) fn remove(&self, trust_domain: &TrustDomain) {
        self.lock().remove(trust_domain);
    }

    pub(super) fn all(&self) -> Vec<PeerStatus> {
        self.lock().values().cloned().collect()
    }
}
