//! The one place where bundles are published: the own one and every peer's, as a snapshot that
//! verifiers follow.

use std::sync::Arc;

use renkei_spiffe::{Bundle, BundleSet, TrustDomain};
use tokio::sync::watch;

/// Publishes snapshots of all bundles.
#[derive(Debug)]
pub(crate) struct Bundles(watch::Sender<Arc<BundleSet>>);

impl Bundles {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Arc::new(BundleSet::default())))
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<BundleSet>> {
        self.0.subscribe()
    }

    pub(crate) fn snapshot(&self) -> Arc<BundleSet> {
        self.0.borrow().clone()
    }

    /// Puts a bundle in; followers wake only when it differs from the one before.
    pub(crate) fn put(&self, bundle: Bundle) {
        self.0.send_if_modified(|all| {
            let before = all.get(&bundle.trust_domain);
            if before.is_some_and(|before| **before == bundle) {
                return false;
            }
            let mut next = BundleSet::clone(all);
            next.insert(Arc::new(bundle));
            *all = Arc::new(next);
            true
        });
    }

    /// Takes a trust domain out.
    pub(crate) fn remove(&self, trust_domain: &TrustDomain) {
        self.0.send_if_modified(|all| {
            if all.get(trust_domain).is_none() {
                return false;
            }
            let mut next = BundleSet::clone(all);
            next.remove(trust_domain);
            *all = Arc::new(next);
            true
        });
    }
}
