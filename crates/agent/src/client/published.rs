//! What is published of what an agent has said: the complete set of its last answer, without the
//! SVIDs that have ended. An agent that is gone renews nothing.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use renkei_runtime::clock;
use renkei_spiffe::{Identities, X509Svid};
use tokio::sync::watch;

/// The longest time between two looks at the clock, which may be set.
const LOOK: Duration = Duration::from_secs(1);

/// The last answer, and what of it is valid.
#[derive(Debug)]
pub(super) struct Published {
    received: Mutex<Arc<Identities>>,
    valid: watch::Sender<Arc<Identities>>,
}

impl Published {
    pub(super) fn new(valid: watch::Sender<Arc<Identities>>) -> Self {
        let received = Mutex::new(valid.borrow().clone());
        Self { received, valid }
    }

    /// A new answer: what it does not hold is not used any more (SPIFFE_Workload_API 5.2.1).
    pub(super) fn receive(&self, identities: Identities) {
        *self.received() = Arc::new(identities);
        self.publish();
    }

    /// An answer that cannot be used names these IDs and no others.
    pub(super) fn retain(&self, named: &BTreeSet<String>) {
        let mut identities = Identities::clone(&self.received());
        let before = identities.svids.len();
        identities
            .svids
            .retain(|id, _| named.contains(&id.to_string()));
        if identities.svids.len() < before {
            self.receive(identities);
        }
    }

    /// Takes out what ends, and puts it back if the clock was wrong.
    pub(super) async fn follow_the_clock(&self) -> Infallible {
        loop {
            self.publish();
            let now = clock::now();
            let received = self.received().clone();
            let ends = received.svids.values().map(|svid| svid.not_after() - now);
            let next = ends.filter_map(|left| Duration::try_from(left).ok()).min();
            let pause = next.map_or(LOOK, |next| LOOK.min(next + Duration::from_millis(1)));
            tokio::time::sleep(pause).await;
        }
    }

    fn publish(&self) {
        // The lock makes a newer answer wait, so that it is published later.
        let received = self.received();
        let now = clock::now();
        // One whose time has not come came with a clock that was wrong, here or there.
        let valid = |svid: &X509Svid| svid.not_after() > now && svid.not_before() <= now;
        let next = match received.svids.values().all(|svid| valid(svid)) {
            true => received.clone(),
            false => {
                let mut some = Identities::clone(&received);
                some.svids.retain(|_, svid| valid(svid));
                Arc::new(some)
            }
        };
        self.valid.send_if_modified(|published| {
            let changed = !Arc::ptr_eq(published, &next) && !is_same(published, &next);
            if changed {
                *published = next;
            }
            changed
        });
    }

    fn received(&self) -> MutexGuard<'_, Arc<Identities>> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same SVIDs and bundles, not merely equal ones.
fn is_same(one: &Identities, other: &Identities) -> bool {
    let (some, others) = (one.svids.values(), other.svids.values());
    Arc::ptr_eq(&one.bundles, &other.bundles)
        && some.len() == others.len()
        && some.zip(others).all(|(a, b)| Arc::ptr_eq(a, b))
}
