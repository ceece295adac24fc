//! Bundles and identities that went away a moment ago. During a forced rotation SPIRE's agent sends
//! a set without a federated bundle or without an SVID and, a moment later, the whole set again.
//! New connections are refused meanwhile; what is open waits for a moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use renkei_spiffe::{Identities, NoSvid, PeerError, SpiffeId, TrustDomain};
use tokio::time::Instant;

use super::Fault;

/// What is missing that was there before, and until when that is tolerated.
#[derive(Debug)]
pub(crate) struct Withdrawn {
    /// How long open connections stay without the bundle of their peer, or their own SVID.
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bundles: Awaited<TrustDomain>,
    svids: Awaited<SpiffeId>,
}

#[derive(Debug)]
struct Awaited<K> {
    present: BTreeSet<K>,
    until: BTreeMap<K, Instant>,
}

impl<K> Default for Awaited<K> {
    fn default() -> Self {
        Self {
            present: BTreeSet::new(),
            until: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Awaited<K> {
    fn follow(&mut self, now: BTreeSet<K>, grace: Duration) {
        let at = Instant::now();
        self.until
            .retain(|name, until| !now.contains(name) && *until > at);
        for name in self.present.difference(&now) {
            self.until.insert(name.clone(), at + grace);
        }
        self.present = now;
    }

    fn holds(&self, name: &K) -> bool {
        let waits = |until: &Instant| Instant::now() < *until;
        self.present.contains(name) || self.until.get(name).is_some_and(waits)
    }
}

impl Withdrawn {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            state: Mutex::default(),
        }
    }

    /// Compares the identities with those of the call before. One caller alone follows them.
    pub(crate) fn follow(&self, identities: &Identities) {
        let bundles = identities.bundles.iter();
        let bundles = bundles.map(|bundle| bundle.trust_domain.clone()).collect();
        let svids = identities.svids.keys().cloned().collect();
        let mut state = self.state();
        state.bundles.follow(bundles, self.grace);
        state.svids.follow(svids, self.grace);
    }

    /// Whether what is open still waits for the bundle of a trust domain, if it is missing. Also
    /// when it was there at the last call of [`follow`](Self::follow): the next one decides.
    pub(crate) fn is_awaited(&self, name: &TrustDomain) -> bool {
        self.state().bundles.holds(name)
    }

    /// Whether a fault is nothing but something missing that is still waited for.
    pub(crate) fn spares(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Peer(PeerError::UnknownTrustDomain(id)) => self.is_awaited(id.trust_domain()),
            Fault::Own(NoSvid::Missing(id)) => self.state().svids.holds(id),
            _ => false,
        }
    }

    /// How long it is until some wait is over.
    pub(crate) fn left(&self) -> Option<Duration> {
        let state = self.state();
        let all = state
            .bundles
            .until
            .values()
            .chain(state.svids.until.values());
        let next = all.min().copied()?;
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

    fn set(names: &[&str]) -> Identities {
        let names = names.iter().map(|name| TrustDomain::parse(name).unwrap());
        let bundles = names.map(|name| Arc::new(Bundle::empty(name))).collect();
        Identities {
            bundles: Arc::new(bundles),
            ..Identities::default()
        }
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
