//! Bundles that went away a moment ago. SPIRE's agent sends a set without a federated bundle and,
//! under a millisecond later, the whole set again. New connections are refused meanwhile; what is
//! open waits for a moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use renkei_spiffe::{BundleSet, PeerError, TrustDomain};
use tokio::time::Instant;

use super::Fault;

/// Which bundles are missing that were there before, and until when that is tolerated.
#[derive(Debug)]
pub(crate) struct Withdrawn {
    /// How long open connections stay without the bundle of their peer.
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    present: BTreeSet<TrustDomain>,
    until: BTreeMap<TrustDomain, Instant>,
}

impl Withdrawn {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            state: Mutex::default(),
        }
    }

    /// Compares the bundles with those of the call before. One caller alone follows the identities.
    pub(crate) fn follow(&self, bundles: &BundleSet) {
        let now = Instant::now();
        let mut state = self.state();
        let State { present, until } = &mut *state;
        until.retain(|name, until| bundles.get(name).is_none() && *until > now);
        let gone = present.iter().filter(|name| bundles.get(name).is_none());
        for name in gone {
            until.insert(name.clone(), now + self.grace);
        }
        *present = bundles
            .iter()
            .map(|bundle| bundle.trust_domain.clone())
            .collect();
    }

    /// Whether what is open still waits for the bundle of a trust domain, if it is missing. Also
    /// when it was there at the last call of [`follow`](Self::follow): the next one decides.
    pub(crate) fn is_awaited(&self, name: &TrustDomain) -> bool {
        let state = self.state();
        let waits = |until: &Instant| Instant::now() < *until;
        state.present.contains(name) || state.until.get(name).is_some_and(waits)
    }

    /// Whether a fault is nothing but a missing bundle that is still waited for.
    pub(crate) fn spares(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Peer(PeerError::UnknownTrustDomain(id)) => self.is_awaited(id.trust_domain()),
            _ => false,
        }
    }

    /// How long it is until the wait for some bundle is over.
    pub(crate) fn left(&self) -> Option<Duration> {
        let next = self.state().until.values().min().copied()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use renkei_spiffe::Bundle;

    use super::*;

    fn set(names: &[&str]) -> BundleSet {
        let names = names.iter().map(|name| TrustDomain::parse(name).unwrap());
        names.map(|name| Arc::new(Bundle::empty(name))).collect()
    }

    const GRACE: Duration = Duration::from_secs(3);

    #[tokio::test(start_paused = true)]
    async fn a_bundle_that_went_is_awaited_for_a_moment_and_one_that_never_was_is_not() {
        let withdrawn = Withdrawn::new(GRACE);
        let osaka = TrustDomain::parse("osaka.example").unwrap();
        withdrawn.follow(&set(&["tokyo.example"]));
        assert!(!withdrawn.is_awaited(&osaka));
        withdrawn.follow(&set(&["tokyo.example", "osaka.example"]));
        assert_eq!(withdrawn.left(), None);
        withdrawn.follow(&set(&["tokyo.example"]));
        assert!(withdrawn.is_awaited(&osaka));
        assert_eq!(withdrawn.left(), Some(GRACE));
        // A later look does not extend the wait.
        tokio::time::advance(GRACE / 2).await;
        withdrawn.follow(&set(&["tokyo.example"]));
        assert_eq!(withdrawn.left(), Some(GRACE / 2));
        tokio::time::advance(GRACE / 2).await;
        assert!(!withdrawn.is_awaited(&osaka));
        withdrawn.follow(&set(&["tokyo.example"]));
        assert_eq!(withdrawn.left(), None);
        // It comes back in time.
        withdrawn.follow(&set(&["tokyo.example", "osaka.example"]));
        withdrawn.follow(&set(&["tokyo.example"]));
        withdrawn.follow(&set(&["tokyo.example", "osaka.example"]));
        assert_eq!(withdrawn.left(), None);
    }
}
