//! Ends what is open and could not be opened again now: connections and lanes whose certificates
//! have ended or do not verify any more, and everything of an identity that was withdrawn.
//!
//! Certificates are valid by the wall clock, which may be set at any time: it is looked at once a
//! second, and at the moments when a certificate ends.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use renkei_runtime::{clock, readiness::Condition};
use renkei_spiffe::{Identities, PeerError};
use time::OffsetDateTime;

use crate::{
    authorization::revocation,
    context::Context,
    hub::Hub,
    identity::{Direction, Fault, Pair, Withdrawn},
    readiness,
    trunk::{Driver, NEXT_SVID, TrunkTable},
};

/// The longest time between two looks at the clock.
const LOOK: Duration = Duration::from_secs(1);
/// How long the streams of a caller whose SVID has ended wait for lanes of its next one.
const LATE: time::Duration = time::Duration::seconds(NEXT_SVID.as_secs().cast_signed());

/// Follows the identities and the clock until the proxy is gone, and keeps its readiness.
pub(crate) struct Sweeper {
    pub(crate) context: Weak<Context>,
    pub(crate) hub: Weak<Hub>,
    pub(crate) trunks: Arc<TrunkTable>,
    pub(crate) withdrawn: Arc<Withdrawn>,
    pub(crate) ready: Condition,
}

impl Sweeper {
    /// Whether the proxy is gone.
    pub(crate) fn is_over(&self) -> bool {
        self.context.strong_count() == 0
    }

    pub(crate) async fn run(&self) {
        let Some((mut identities, expiry)) = self
            .context
            .upgrade()
            .map(|context| (context.identities.clone(), context.expiry.clone()))
        else {
            return;
        };
        self.withdrawn.follow(&identities.borrow());
        let (mut before, mut published) = (clock::now(), true);
        loop {
            let bundle_wait = self.withdrawn.left().unwrap_or(LOOK);
            let wait = expiry.left(clock::now()).min(LOOK).min(bundle_wait);
            let changed = tokio::select! {
                changed = identities.changed(), if published => {
                    // Without a publisher what there is still ends in its time.
                    published = changed.is_ok();
                    true
                }
                () = expiry.sooner() => false,
                () = tokio::time::sleep(wait) => false,
            };
            let Some(context) = self.context.upgrade() else {
                return;
            };
            let now = clock::now();
            let waited = self.withdrawn.left().is_some_and(|left| left.is_zero());
            if changed || waited || now < before || expiry.left(now).is_zero() {
                expiry.forget();
                self.sweep(&context, now).await;
            }
            before = now;
            readiness::set(&self.ready, &context);
        }
    }

    async fn sweep(&self, context: &Context, now: OffsetDateTime) {
        let identities = context.identities();
        let withdrawn = &self.withdrawn;
        withdrawn.follow(&identities);
        context.flows.cut_where(|flow| {
            let fault = revocation::by_identities(flow, &identities, now);
            let fault = fault.filter(|fault| !withdrawn.spares(fault));
            fault.map(|fault| fault.cut_reason())
        });
        if let Some(hub) = self.hub.upgrade() {
            hub.follow_bundles(&identities.bundles, withdrawn);
        }
        let note = |ends: &mut dyn Iterator<Item = OffsetDateTime>| {
            ends.filter(|end| *end > now)
                .for_each(|end| context.expiry.note(end));
        };
        let own = identities.svids.values().map(|svid| svid.not_after());
        let alone = context.flows.list().into_iter();
        let alone = alone.filter_map(|flow| Some(flow.session.as_ref()?.until()));
        note(&mut own.chain(alone));
        for (pair, driver) in self.trunks.trunks() {
            let ends = review(&pair, &driver, context, (&identities, withdrawn, now));
            note(&mut ends.into_iter());
            // Chains may have been verified; others want to run too.
            tokio::task::yield_now().await;
        }
    }
}

/// Looks at one trunk; says when to look again.
fn review(
    pair: &Pair,
    driver: &Driver,
    context: &Context,
    (identities, withdrawn, now): (&Arc<Identities>, &Withdrawn, OffsetDateTime),
) -> Vec<OffsetDateTime> {
    let desired = context.desired.load();
    let stranger = desired
        .as_ref()
        .is_some_and(|desired| !revocation::is_linked(&desired.site, pair.remote()));
    if stranger {
        tracing::info!(
            trunk = ?driver.id(),
            ?pair,
            "a trunk is ended: the other site is no longer a peer"
        );
        driver.revoke();
        return Vec::new();
    }
    let fault = driver.check(identities, now).err();
    let fault = fault.filter(|fault| fault.ends_what_is_open() && !withdrawn.spares(fault));
    if let Some(fault) = &fault
        && ends(pair, fault, now)
        && (matches!(fault, Fault::Own(_)) || driver.lacks_certificates())
    {
        let (caller, callee) = (&pair.caller, &pair.callee);
        tracing::info!(trunk = ?driver.id(), %caller, %callee, %fault, "a trunk is ended");
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
        // No newer SVID helps against a bundle that stays away.
        (_, Fault::Own(_) | Fault::Peer(PeerError::UnknownTrustDomain(_))) => true,
        // Only a handshake can tell whether there are newer SVIDs: the trunk's manager, here or at
        // the other end, dials at once.
        (_, Fault::OwnOutdated(_) | Fault::NoLane) | (Direction::Outbound, Fault::Peer(_)) => false,
        (Direction::Inbound, Fault::Peer(_)) => {
            fault.peer_ended().is_none_or(|ended| ended + LATE <= now)
        }
    }
}
