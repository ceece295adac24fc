//! Keeps the identities of this node fresh.
//!
//! For every identity of its part, the keeper makes a key, has a [`CertificateIssuer`] sign a chain,
//! and publishes all of it as one [`Identities`]. It renews at half of the life, plus or minus
//! 10 %; a failed renewal leaves the valid SVID in use and is tried again. An SVID whose issuer
//! has left the own trust domain's bundle is renewed at once: that is a forced rotation. So are
//! all SVIDs when the site changes how long they live.
//!
//! ```text
//!          entry appears               issued and verified
//! (none) ----------------> Wanted ------------------------------> Valid
//!                           |  ^                                   |
//!                           |  +-- failed: waits, longer each time |
//!                           +<-------------------------------------+ half of life over, or
//!                                                                    issuer withdrawn
//! ```

//!
//! With many identities the work for each stays the same: two agendas say which are due and which
//! end next, and while many are issued they are published together.

mod agenda;
mod request;
mod svid_slot;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use renkei_api::{
    issue::CertificateIssuer,
    node::{AgentPart, EntryId},
    status::SvidStatus,
};
use renkei_runtime::{clock, supervise::Supervisor};
use renkei_spiffe::{
    BundleSet, Identities, PeerError, SpiffeId, TrustDomain, X509Svid, verify_peer,
};
use rustls::crypto::CryptoProvider;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::AgentMetrics;

pub use crate::certificate::CertificateError;
use agenda::{Agenda, LONGEST_SLEEP, sleep_until};
pub use request::RequestError;
use svid_slot::SvidSlot;

/// How many SVIDs are asked for at the same time.
const CONCURRENT_REQUESTS: usize = 16;

/// With many SVIDs, further ones wait after a publication, so long for each one there is: every
/// reader looks at all of them. What is taken away never waits.
const PAUSE_PER_SVID: Duration = Duration::from_micros(10);
const MANY: usize = 100;

/// What a keeper follows and where it gets its certificates.
#[derive(Clone)]
pub struct KeeperInputs {
    /// Which identities to hold.
    pub part: watch::Receiver<Arc<AgentPart>>,
    /// The bundles of the own trust domain and of the peers.
    pub bundles: watch::Receiver<Arc<BundleSet>>,
    /// The server, as the agent sees it.
    pub issuer: Arc<dyn CertificateIssuer>,
    /// Verifies what was signed.
    pub provider: Arc<CryptoProvider>,
    /// Where issued SVIDs and failures are counted.
    pub metrics: AgentMetrics,
    /// Keeps the agent's tasks running.
    pub tasks: Supervisor,
}

/// What a keeper publishes.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Every valid SVID, and the bundles.
    pub identities: watch::Receiver<Arc<Identities>>,
    /// One line for every identity of the part.
    pub status: watch::Receiver<Arc<Vec<SvidStatus>>>,
}

/// Starts to keep identities until `stop`.
pub fn keep(inputs: KeeperInputs, stop: CancellationToken) -> Kept {
    let (identities, identities_seen) = watch::channel(Arc::new(Identities::default()));
    let (status, status_seen) = watch::channel(Arc::default());
    let (tasks, over) = (inputs.tasks.clone(), stop.clone());
    tasks.keep(
        "identities",
        move || over.is_cancelled(),
        move || {
            let keeper = Keeper::new(inputs.clone(), identities.clone(), status.clone());
            stop.clone()
                .run_until_cancelled_owned(keeper.run())
                .map(drop)
        },
    );
    Kept {
        identities: identities_seen,
        status: status_seen,
    }
}

struct Keeper {
    inputs: KeeperInputs,
    own: TrustDomain,
    /// How long SVIDs live, once a part has said so.
    lifetime: Option<Duration>,
    /// The entry by which each identity is asked for.
    entries: BTreeMap<SpiffeId, EntryId>,
    slots: BTreeMap<SpiffeId, SvidSlot>,
    /// When each identity is to be asked for.
    due: Agenda,
    /// When each SVID ends.
    ends: Agenda,
    /// The bundles by which the issuers were checked last.
    checked: Option<Arc<BundleSet>>,
    /// The last look at the clock.
    looked: OffsetDateTime,
    unpublished: Unpublished,
    /// Before then, only what is urgent is published.
    next_publication: Instant,
    in_flight: FuturesUnordered<BoxFuture<'static, (SpiffeId, Result<X509Svid, RequestError>)>>,
    identities: watch::Sender<Arc<Identities>>,
    status: watch::Sender<Arc<Vec<SvidStatus>>>,
}

/// What has changed since the last publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unpublished {
    Nothing,
    /// SVIDs have come, or could not be had.
    Answers,
    /// SVIDs, entries or bundles may have gone.
    Urgent,
}

impl Keeper {
    /// Begins with what is published: nothing, or what a keeper that failed has left.
    fn new(
        inputs: KeeperInputs,
        identities: watch::Sender<Arc<Identities>>,
        status: watch::Sender<Arc<Vec<SvidStatus>>>,
    ) -> Self {
        let left = identities.borrow().svids.clone();
        let slots = left
            .into_iter()
            .map(|(id, svid)| (id, SvidSlot::left(svid)));
        let own = inputs.part.borrow().trust_domain.clone();
        Self {
            own,
            lifetime: None,
            entries: BTreeMap::new(),
            slots: slots.collect(),
            due: Agenda::default(),
            ends: Agenda::default(),
            checked: None,
            looked: OffsetDateTime::UNIX_EPOCH,
            unpublished: Unpublished::Urgent,
            next_publication: Instant::now(),
            inputs,
            in_flight: FuturesUnordered::new(),
            identities,
            status,
        }
    }

    async fn run(mut self) {
        self.follow_part();
        loop {
            self.look_at_clock();
            self.check_issuers();
            self.request_due();
            self.publish();
            let (waits, publication) = (self.unpublished, self.next_publication);
            let wake = clock::now() + self.until_next();
            tokio::select! {
                changed = self.inputs.part.changed() => match changed {
                    Ok(()) => self.follow_part(),
                    Err(_) => return,
                },
                changed = self.inputs.bundles.changed() => if changed.is_err() { return },
                Some((id, result)) = self.in_flight.next() => self.answered(&id, result),
                () = sleep_until(wake) => {}
                () = tokio::time::sleep_until(publication), if waits != Unpublished::Nothing => {}
            }
        }
    }

    /// Lets go of what has ended. After the clock was set back, everything is looked at again.
    fn look_at_clock(&mut self) {
        let now = clock::now();
        if now < self.looked {
            self.look_at_all();
        }
        self.looked = now;
        while let Some(id) = self.ends.pop(now) {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.drop_invalid(now);
                self.unpublished = Unpublished::Urgent;
                self.schedule(&id);
            }
        }
    }

    fn look_at_all(&mut self) {
        let now = clock::now();
        self.due.clear();
        self.ends.clear();
        for (id, slot) in &mut self.slots {
            slot.drop_invalid(now);
            self.due.set(id, slot.due(now));
            self.ends.set(id, slot.end());
        }
        self.unpublished = Unpublished::Urgent;
    }

    /// Notes when an identity is looked at next.
    fn schedule(&mut self, id: &SpiffeId) {
        if let Some(slot) = self.slots.get(id) {
            self.due.set(id, slot.due(clock::now()));
            self.ends.set(id, slot.end());
        }
    }

    /// Keeps an SVID for each entry of the part, and drops the others.
    fn follow_part(&mut self) {
        let part = self.inputs.part.borrow_and_update().clone();
        self.own = part.trust_domain.clone();
        self.entries = BTreeMap::new();
        for entry in &part.entries {
            // Of several entries of one identity, any serves to ask for it.
            let asked = self.entries.entry(entry.spiffe_id.clone());
            asked.or_insert_with(|| entry.id.clone());
        }
        self.slots.retain(|id, _| self.entries.contains_key(id));
        for id in self.entries.keys() {
            self.slots.entry(id.clone()).or_default();
        }
        let before = self.lifetime.replace(part.svid_lifetime);
        if before.is_some_and(|before| before != part.svid_lifetime) {
            if self.slots.values().any(|slot| slot.svid().is_some()) {
                tracing::info!(lifetime = ?part.svid_lifetime, "SVIDs live for another time: renewing all");
            }
            self.slots.values_mut().for_each(SvidSlot::renew_now);
        }
        self.look_at_all();
    }

    /// Marks what was issued by an authority that is no longer in the own bundle.
    fn check_issuers(&mut self) {
        let bundles = self.inputs.bundles.borrow_and_update().clone();
        let checked = self.checked.replace(bundles.clone());
        if checked.is_some_and(|checked| Arc::ptr_eq(&checked, &bundles)) {
            return;
        }
        let now = clock::now();
        for (id, slot) in &mut self.slots {
            let withdrawn = |svid: &Arc<X509Svid>| {
                matches!(
                    verify(&self.inputs.provider, svid, &bundles, now),
                    Err(PeerError::UntrustedCa(_) | PeerError::Chain { .. })
                )
            };
            if slot.check_issuer(&bundles, withdrawn) {
                tracing::info!(%id, "the issuer has left the bundle: renewing at once");
            }
        }
        self.look_at_all();
    }

    /// Asks for everything that is due, unless nothing could be verified yet.
    fn request_due(&mut self) {
        if !has_authorities(&self.inputs.bundles.borrow(), &self.own) {
            return;
        }
        let now = clock::now();
        while self.in_flight.len() < CONCURRENT_REQUESTS {
            let Some(id) = self.due.pop(now) else {
                return;
            };
            let (Some(entry), Some(slot)) = (self.entries.get(&id), self.slots.get_mut(&id)) else {
                continue;
            };
            if slot.begin_if_due(now) {
                let entry = entry.clone();
                let issuer = Arc::clone(&self.inputs.issuer);
                self.in_flight.push(Box::pin(async move {
                    let result = request::request(&*issuer, entry, &id).await;
                    (id, result)
                }));
            }
        }
    }

    fn answered(&mut self, id: &SpiffeId, result: Result<X509Svid, RequestError>) {
        let now = clock::now();
        let bundles = self.inputs.bundles.borrow().clone();
        let result = result.and_then(|svid| {
            verify(&self.inputs.provider, &svid, &bundles, now)
                .map(|_| Arc::new(svid))
                .map_err(RequestError::Unverifiable)
        });
        // The entry may have been removed meanwhile.
        let Some(slot) = self.slots.get_mut(id) else {
            return;
        };
        match result {
            Ok(svid) => {
                let until = svid.not_after().format(&Rfc3339).unwrap_or_default();
                tracing::info!(%id, serial = svid.serial(), until, "SVID issued");
                self.inputs.metrics.issued(slot.issued(svid, &bundles, now));
            }
            Err(error) => {
                let wait = slot.failed(&error, now);
                self.inputs.metrics.issue_failed();
                tracing::warn!(%id, %error, retry_in = ?wait, "no SVID was issued");
            }
        }
        self.unpublished = self.unpublished.max(Unpublished::Answers);
        self.schedule(id);
    }

    fn publish(&mut self) {
        match self.unpublished {
            Unpublished::Nothing => return,
            Unpublished::Answers if Instant::now() < self.next_publication => return,
            _ => self.unpublished = Unpublished::Nothing,
        }
        let valid = |(id, slot): (&SpiffeId, &SvidSlot)| Some((id.clone(), slot.svid()?.clone()));
        let next = Identities {
            svids: self.slots.iter().filter_map(valid).collect(),
            bundles: self.inputs.bundles.borrow().clone(),
        };
        self.identities.send_if_modified(|published| {
            let changed = !is_same(published, &next);
            if changed {
                *published = Arc::new(next);
            }
            changed
        });
        let status = self
            .slots
            .iter()
            .map(|(id, slot)| slot.status(id))
            .collect();
        self.status.send_replace(Arc::new(status));
        let count = Some(self.slots.len()).filter(|count| *count >= MANY);
        let count = u32::try_from(count.unwrap_or(0)).unwrap_or(u32::MAX);
        self.next_publication = Instant::now() + PAUSE_PER_SVID * count;
    }

    fn until_next(&self) -> Duration {
        let now = clock::now();
        // Otherwise a bundle or an answer has to come first, and will wake the keeper.
        let may_ask = self.in_flight.len() < CONCURRENT_REQUESTS
            && has_authorities(&self.inputs.bundles.borrow(), &self.own);
        let due = self.due.next().filter(|_| may_ask);
        let next = due.into_iter().chain(self.ends.next()).min();
        next.map_or(LONGEST_SLEEP, |at| {
            Duration::try_from(at - now).unwrap_or_default()
        })
        .min(LONGEST_SLEEP)
    }
}

/// Whether the own bundle could verify anything.
pub(crate) fn has_authorities(bundles: &BundleSet, trust_domain: &TrustDomain) -> bool {
    bundles
        .get(trust_domain)
        .is_some_and(|bundle| !bundle.x509_authorities.is_empty())
}

fn verify(
    provider: &CryptoProvider,
    svid: &X509Svid,
    bundles: &BundleSet,
    now: OffsetDateTime,
) -> Result<SpiffeId, PeerError> {
    let algorithms = provider.signature_verification_algorithms;
    verify_peer(svid.chain(), bundles, now, &algorithms)
}

/// Compares by what a reader would notice: SVIDs by identity of the object, which is new at each
/// renewal.
fn is_same(one: &Identities, other: &Identities) -> bool {
    one.svids.len() == other.svids.len()
        && one
            .svids
            .values()
            .zip(other.svids.values())
            .all(|(a, b)| Arc::ptr_eq(a, b))
        && one.bundles == other.bundles
}

#[cfg(test)]
mod tests;
