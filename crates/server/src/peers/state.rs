//! What `renkei status` says of a peer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use renkei_site::BundleSource;
use renkei_spiffe::TrustDomain;
use serde::Serialize;
use time::OffsetDateTime;

/// A peer's bundle and how fetching it goes.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    /// Whose bundle.
    pub trust_domain: TrustDomain,
    /// `file`, `https_web`, `https_spiffe` or `federation`.
    pub profile: &'static str,
    /// The file or URL.
    pub source: String,
    /// `spiffe_sequence` of the bundle in use.
    pub sequence: Option<u64>,
    /// How many X.509 authorities the bundle in use has; none when there is no bundle yet.
    pub authorities: usize,
    /// The last fetch that brought a good bundle, also before a restart.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_success: Option<OffsetDateTime>,
    /// Why the latest fetch failed, if it did.
    pub last_error: Option<String>,
    /// When the next fetch is due.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_fetch: Option<OffsetDateTime>,
}

impl PeerStatus {
    fn new(trust_domain: &TrustDomain, source: &BundleSource) -> Self {
        let (profile, source) = match source {
            BundleSource::File(path) => ("file", path.display().to_string()),
            BundleSource::HttpsWeb { url, .. } => ("https_web", url.to_string()),
            BundleSource::HttpsSpiffe { url, .. } => ("https_spiffe", url.to_string()),
            BundleSource::Federation => ("federation", "the federation's log".to_owned()),
        };
        Self {
            trust_domain: trust_domain.clone(),
            profile,
            source,
            sequence: None,
            authorities: 0,
            last_success: None,
            last_error: None,
            next_fetch: None,
        }
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
            .insert(trust_domain.clone(), PeerStatus::new(trust_domain, source));
    }

    pub(super) fn update(&self, trust_domain: &TrustDomain, change: impl FnOnce(&mut PeerStatus)) {
        if let Some(status) = self.lock().get_mut(trust_domain) {
            change(status);
        }
    }

    pub(super) fn remove(&self, trust_domain: &TrustDomain) {
        self.lock().remove(trust_domain);
    }

    pub(super) fn all(&self) -> Vec<PeerStatus> {
        self.lock().values().cloned().collect()
    }
}
