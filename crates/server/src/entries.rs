//! Registration entries: the only truth of what may be issued.
//!
//! The store has them, each with the source that it comes from. A source replaces its own entries
//! in one transaction and cannot touch those of another. In force is what the database has and its
//! source still wants, both from an image in memory. So a database that gives no answer delays new
//! entries, and neither a renewal nor the end of an entry.

mod edit;
mod holder;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use renkei_api::{
    node::{AgentPart, Entry, EntryId},
    status::{EntryKind, EntryStatus},
};
use renkei_site::{FileEntry, FileEntryKind, Lifetimes, Placement, Selector};
use renkei_spiffe::{SpiffeId, TrustDomain};
use time::OffsetDateTime;
use tokio::sync::{Mutex, watch};

pub(crate) use self::{
    edit::{Draft, MOST},
    holder::{EVERY_AGENT, EntryHolder, NODE, OWN_AGENT},
};
use crate::store::{
    Attributes, DataStore, EntrySet, EntrySource, Registered, Registration, StoreError,
};

/// The entries of a trust domain.
pub(crate) struct Entries {
    trust_domain: TrustDomain,
    store: Arc<dyn DataStore>,
    image: RwLock<Image>,
    agent_part: watch::Sender<Arc<AgentPart>>,
    /// One change at a time.
    changing: Mutex<()>,
}

/// All entries in memory.
struct Image {
    /// What the database has.
    stored: Arc<EntrySet>,
    /// What each source wants, as far as it has said so.
    wanted: BTreeMap<EntrySource, Vec<Registration>>,
    /// What may be issued.
    in_force: Arc<EntrySet>,
    /// How long an SVID lives that is issued now.
    svid_lifetime: Duration,
}

impl Entries {
    /// Reads the entries back.
    pub(crate) async fn open(
        store: Arc<dyn DataStore>,
        trust_domain: TrustDomain,
    ) -> Result<Self, StoreError> {
        let stored = Arc::new(store.entries().await?);
        let svid_lifetime = Lifetimes::default().x509_svid;
        let own = EntryHolder::Own;
        let agent_part = Arc::new(agent_part(&stored, &trust_domain, svid_lifetime, &own));
        let image = Image {
            stored: stored.clone(),
            wanted: BTreeMap::new(),
            in_force: stored,
            svid_lifetime,
        };
        Ok(Self {
            trust_domain,
            store,
            image: RwLock::new(image),
            agent_part: watch::Sender::new(agent_part),
            changing: Mutex::default(),
        })
    }

    /// Makes the entries of a source equal to `wanted`.
    pub(crate) async fn replace(
        &self,
        source: &EntrySource,
        wanted: &[Registration],
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        self.limit(source, wanted.to_vec());
        self.write(source, now).await
    }

    /// Ends at once what a source no longer wants. What it wants more waits for [`Self::write`].
    pub(crate) fn limit(&self, source: &EntrySource, wanted: Vec<Registration>) {
        self.update(|image| {
            image.wanted.insert(source.clone(), wanted);
        });
    }

    /// Lets agents know how long SVIDs live from now on.
    pub(crate) fn set_svid_lifetime(&self, lifetime: Duration) {
        self.update(|image| image.svid_lifetime = lifetime);
    }

    /// Writes what a source wants, in one transaction. What stays as it is keeps its revision and
    /// is not written.
    pub(crate) async fn write(
        &self,
        source: &EntrySource,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        let (wanted, stored) = {
            let image = self.image.read().unwrap_or_else(PoisonError::into_inner);
            let wanted = image.wanted.get(source).cloned();
            (wanted.unwrap_or_default(), image.stored.clone())
        };
        if has_exactly(&stored, source, &wanted) {
            return Ok(());
        }
        let set = self.store.replace_entries(source, &wanted, now).await?;
        tracing::info!(%source, entries = wanted.len(), version = set.version, "entries changed");
        self.update(|image| image.stored = Arc::new(set));
        Ok(())
    }

    fn update(&self, change: impl FnOnce(&mut Image)) {
        let mut image = self.image.write().unwrap_or_else(PoisonError::into_inner);
        let lifetime = image.svid_lifetime;
        change(&mut image);
        let mut next = in_force(&image.stored, &image.wanted);
        if next.entries == image.in_force.entries && image.svid_lifetime == lifetime {
            return;
        }
        next.version = next.version.max(image.in_force.version + 1);
        image.in_force = Arc::new(next);
        // Before the lock is given back: agents see changes in their order.
        let lifetime = image.svid_lifetime;
        let own = EntryHolder::Own;
        let part = agent_part(&image.in_force, &self.trust_domain, lifetime, &own);
        self.agent_part.send_replace(Arc::new(part));
    }

    /// An entry that is in force.
    pub(crate) fn get(&self, id: &EntryId) -> Option<Registered> {
        let known = self.image().entries.get(id)?.clone();
        self.is_own(&known).then_some(known)
    }

    /// All entries that are in force.
    pub(crate) fn all(&self) -> Arc<EntrySet> {
        self.image()
    }

    /// Whether an entry of this identity is in force that has a certain attribute.
    pub(crate) fn any_of(&self, id: &SpiffeId, has: impl Fn(&Attributes) -> bool) -> bool {
        let set = self.image();
        let mut entries = set.entries.values().map(|known| &known.entry);
        entries.any(|entry| entry.spiffe_id == *id && has(&entry.attributes))
    }

    /// A trust domain's authority speaks for no other.
    fn is_own(&self, known: &Registered) -> bool {
        *known.entry.spiffe_id.trust_domain() == self.trust_domain
    }

    /// What the agent in this process holds, as it changes. A change of any entry wakes followers.
    pub(crate) fn agent_part(&self) -> watch::Receiver<Arc<AgentPart>> {
        self.agent_part.subscribe()
    }

    /// What another node's agent holds.
    pub(crate) fn part_of(&self, holder: &EntryHolder) -> AgentPart {
        let (set, lifetime) = {
            let image = self.image.read().unwrap_or_else(PoisonError::into_inner);
            (image.in_force.clone(), image.svid_lifetime)
        };
        agent_part(&set, &self.trust_domain, lifetime, holder)
    }

    /// The entries that a holder may ask for, in the order of their IDs.
    pub(crate) fn held_by(&self, holder: &EntryHolder) -> Vec<Registered> {
        let set = self.image();
        let held = holder.held(&set, &self.trust_domain).into_iter();
        held.filter(|known| self.is_own(known)).cloned().collect()
    }

    pub(crate) fn status(&self) -> Vec<EntryStatus> {
        let status = |known: &Registered| EntryStatus {
            entry: known.entry.id.to_string(),
            source: known.source.to_string(),
            id: known.entry.spiffe_id.clone(),
            kind: known.entry.kind,
            selectors: known.entry.selectors.clone(),
            since: Some(known.since),
        };
        self.image().entries.values().map(status).collect()
    }

    fn stored(&self) -> Arc<EntrySet> {
        let image = self.image.read().unwrap_or_else(PoisonError::into_inner);
        image.stored.clone()
    }

    fn image(&self) -> Arc<EntrySet> {
        let image = self.image.read().unwrap_or_else(PoisonError::into_inner);
        image.in_force.clone()
    }
}

fn has_exactly(stored: &EntrySet, source: &EntrySource, wanted: &[Registration]) -> bool {
    let present = stored.entries.values().filter(|one| one.source == *source);
    let is_same = |entry: &Registration| {
        let known = stored.entries.get(&entry.id);
        known.is_some_and(|known| known.source == *source && known.entry == *entry)
    };
    present.count() == wanted.len() && wanted.iter().all(is_same)
}

/// What is stored, as far as its sources still want it.
fn in_force(stored: &EntrySet, wanted: &BTreeMap<EntrySource, Vec<Registration>>) -> EntrySet {
    let wanted: BTreeMap<&EntrySource, BTreeMap<&EntryId, &Registration>> = wanted
        .iter()
        .map(|(source, all)| (source, all.iter().map(|one| (&one.id, one)).collect()))
        .collect();
    let limited = stored.entries.iter().filter_map(|(id, known)| {
        let entry = match wanted.get(&known.source) {
            Some(wanted) => narrowed(&known.entry, wanted.get(id)?)?,
            None => known.entry.clone(),
        };
        let source = known.source.clone();
        Some((
            id.clone(),
            Registered {
                entry,
                source,
                ..*known
            },
        ))
    });
    EntrySet {
        version: stored.version,
        entries: limited.collect(),
    }
}

/// What both the entry as it was and the entry as it is wanted allow: the same identity, for a
/// process that matches the selectors of both.
fn narrowed(before: &Registration, wanted: &Registration) -> Option<Registration> {
    if (&before.spiffe_id, before.kind) != (&wanted.spiffe_id, wanted.kind) {
        return None;
    }
    let mut both = wanted.clone();
    both.on = on_both(&before.on, &wanted.on)?;
    // Without selectors an entry is for no process.
    if before.selectors.is_empty() {
        both.selectors.clear();
    }
    if !both.selectors.is_empty() {
        let old = before.selectors.iter();
        let more = old.filter(|text| !wanted.selectors.contains(text));
        both.selectors.extend(more.cloned());
    }
    Some(both)
}

/// The processes that both the entry as it was and the entry as it is wanted are for, if any.
fn on_both(before: &Placement, wanted: &Placement) -> Option<Placement> {
    match (before, wanted) {
        (Placement::Everywhere, other) | (other, Placement::Everywhere) => Some(other.clone()),
        (Placement::Nodes(before), Placement::Nodes(wanted)) => {
            let both: BTreeSet<String> = before.intersection(wanted).cloned().collect();
            (!both.is_empty()).then_some(Placement::Nodes(both))
        }
        (before, wanted) => (before == wanted).then(|| wanted.clone()),
    }
}

/// The entries that a site file asks for.
pub(crate) fn of_file(entries: &[FileEntry]) -> Vec<Registration> {
    let registration = |entry: &FileEntry| {
        let kind = match entry.kind {
            FileEntryKind::Server => EntryKind::Server,
            FileEntryKind::Service => EntryKind::Service,
            FileEntryKind::Node => EntryKind::Node,
            FileEntryKind::Workload => EntryKind::Workload,
        };
        let id = match kind {
            EntryKind::Server => "file.server".to_owned(),
            kind => format!("file.{}.{}", kind.as_str(), entry.name),
        };
        let id = EntryId::parse(id).inspect_err(|error| {
            tracing::error!(%error, "an entry of the site file is left out");
        });
        Some(Registration {
            id: id.ok()?,
            spiffe_id: entry.id.clone(),
            kind,
            hint: entry.hint.clone(),
            is_default: entry.is_default,
            selectors: entry.selectors.iter().map(ToString::to_string).collect(),
            on: entry.on.clone(),
            attributes: Attributes::default(),
        })
    };
    entries.iter().filter_map(registration).collect()
}

/// The entries as an agent takes them. One with a selector that this version cannot attest is
/// left out: without that selector more processes would match.
fn agent_part(
    set: &EntrySet,
    trust_domain: &TrustDomain,
    svid_lifetime: Duration,
    holder: &EntryHolder,
) -> AgentPart {
    let entry = |known: &Registered| {
        let selectors = known.entry.selectors.iter();
        let selectors: Result<Vec<Selector>, _> =
            selectors.map(|text| Selector::parse(text)).collect();
        match selectors {
            Ok(selectors) => Some(Entry {
                id: known.entry.id.clone(),
                revision: known.revision,
                spiffe_id: known.entry.spiffe_id.clone(),
                hint: known.entry.hint.clone(),
                is_default: known.entry.is_default,
                selectors,
            }),
            Err(error) if known.source == EntrySource::API => {
                tracing::debug!(entry = %known.entry.id, %error, "the entry is for agents of SPIRE alone");
                None
            }
            Err(error) => {
                tracing::warn!(entry = %known.entry.id, %error, "the entry is not given to agents");
                None
            }
        }
    };
    let held = holder.held(set, trust_domain).into_iter();
    AgentPart {
        version: set.version,
        trust_domain: trust_domain.clone(),
        svid_lifetime,
        entries: held.filter_map(entry).collect(),
    }
}

#[cfg(test)]
mod tests;
