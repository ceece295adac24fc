//! Ends what is open and could not be opened again now: connections and lanes whose certificates
//! have ended or do not verify any more, and everything of an identity that was withdrawn.
//!
//! Certificates are valid by the wall clock, which may be set at any time: it is looked at once a
//! second, and at the moments when a certificate ends.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use renkei_runtime::{clock, readiness::Condition};
use renkei_spiffe::Identities;
use time::OffsetDateTime;
use tokio::sync::Notify;

use crate::{
    credentials::Fault,
    flows::{Direction, Pair},
    proxy::set_readiness,
    revocation,
    shared::Shared,
    trunk::{Driver, NEXT_SVID},
};

/// The longest time between two looks at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// How long the streams of a caller whose SVID has ended wait for lanes of its next one.
const LATE: time::Duration = time::Duration::seconds(NEXT_SVID.as_secs().cast_signed());

/// When something open may have to end with nothing but the time.
#[derive(Debug)]
pub(crate) struct Due {
    /// Milliseconds since 1970.
    at: AtomicI64,
    sooner: Notify,
}

impl Default for Due {
    fn default() -> Self {
        Self {
            at: AtomicI64::new(i64::MAX),
            sooner: Notify::new(),
        }
    }
}

impl Due {
    /// Something ends then.
    pub(crate) fn note(&self, at: OffsetDateTime) {
        let at = millis(at);
        if self.at.fetch_min(at, Ordering::SeqCst) > at {
            self.sooner.notify_one();
        }
    }

    fn left(&self, now: OffsetDateTime) -> Duration {
        let left = self.at.load(Ordering::SeqCst).saturating_sub(millis(now));
        Duration::from_millis(left.max(0).unsigned_abs())
    }

    fn forget(&self) {
        self.at.store(i64::MAX, Ordering::SeqCst);
    }
}

/// Rounded up, so that what ends then has ended.
fn millis(at: OffsetDateTime) -> i64 {
    let millis = at.unix_timestamp_nanos().div_euclid(1_000_000) + 1;
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// Follows the identities and the clock until the proxy is gone, and keeps its readiness.
pub(crate) async fn follow(shared: Weak<Shared>, ready: Condition) {
    let Some((mut identities, due)) = shared
        .upgrade()
        .map(|shared| (shared.identities.clone(), shared.due.clone()))
    else {
        return;
    };
    let (mut before, mut published) = (clock::now(), true);
    loop {
        let wait = due.left(clock::now()).min(LOOK);
        let changed = tokio::select! {
            changed = identities.changed(), if published => {
                // Without a publisher what there is still ends in its time.
                published = changed.is_ok();
                true
            }
            () = due.sooner.notified() => false,
            () = tokio::time::sleep(wait) => false,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let now = clock::now();
        if changed || now < before || due.left(now).is_zero() {
            due.forget();
            sweep(&shared, now).await;
        }
        before = now;
        set_readiness(&ready, &shared);
    }
}

async fn sweep(shared: &Shared, now: OffsetDateTime) {
    let identities = shared.identities();
    shared
        .flows
        .cut_where(|flow| revocation::by_identities(flow, &identities, now));
    shared.relays.follow_bundles(&identities.bundles);
    let own = identities.svids.values().map(|svid| svid.not_after());
    let alone = shared.flows.list().into_iter();
    let alone = alone.filter_map(|flow| Some(flow.session.as_ref()?.until()));
    own.chain(alone)
        .filter(|end| *end > now)
        .for_each(|end| shared.due.note(end));
    for (pair, driver) in shared.census.trunks() {
        let ends = review(&pair, &driver, shared, (&identities, now));
        ends.into_iter()
            .filter(|end| *end > now)
            .for_each(|end| shared.due.note(end));
        // Chains may have been verified; others want to run too.
        tokio::task::yield_now().await;
    }
}

/// Looks at one trunk; says when to look again.
fn review(
    pair: &Pair,
    driver: &Driver,
    shared: &Shared,
    (identities, now): (&Arc<Identities>, OffsetDateTime),
) -> Vec<OffsetDateTime> {
    let desired = shared.desired.load();
    let stranger = desired
        .as_ref()
        .is_some_and(|desired| !revocation::is_linked(&desired.site, pair.remote()));
    if stranger {
        tracing::info!(
            ?pair,
            "a trunk is ended: the other site is no longer a peer"
        );
        driver.revoke();
        return Vec::new();
    }
    let fault = driver.check(identities, now).err();
    let fault = fault.filter(Fault::ends_what_is_open);
    if let Some(fault) = &fault
        && ends(pair, fault, now)
        && (matches!(fault, Fault::Own(_)) || driver.lacks_certificates())
    {
        let (caller, callee) = (&pair.caller, &pair.callee);
        tracing::info!(%caller, %callee, %fault, "a trunk is ended");
        driver.revoke();
        return Vec::new();
    }
    driver.drop_faulty(identities, now);
    let late = fault.and_then(|fault| Some(fault.peer_ended()? + LATE));
    driver.settled_until().into_iter().chain(late).collect()
}

/// Whether a trunk without valid certificates ends. Otherwise it loses its lanes, and its streams
/// wait for others as if they had been lost.
fn ends(pair: &Pair, fault: &Fault, now: OffsetDateTime) -> bool {
    match (pair.direction, fault) {
        (_, Fault::Own(_)) => true,
        // Only a handshake can tell whether there are newer SVIDs: the trunk's manager, here or at
        // the other end, dials at once.
        (_, Fault::OwnOutdated(_) | Fault::NoLane) | (Direction::Outbound, Fault::Peer(_)) => false,
        (Direction::Inbound, Fault::Peer(_)) => {
            fault.peer_ended().is_none_or(|ended| ended + LATE <= now)
        }
    }
}
