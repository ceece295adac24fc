//! Registration entries: the only truth of what may be issued.
//!
//! The store has them, each with the source that it comes from. A source replaces its own entries
//! in one transaction and cannot touch those of another. Beside the database there is an image of
//! all entries in memory, which changes only after the database has. Certificates are issued by
//! the image, so a database that gives no answer delays new entries and never a renewal.

use std::sync::{Arc, PoisonError, RwLock};

use renkei_api::{
    node::{AgentPart, Entry, EntryId},
    status::{EntryKind, EntryStatus},
};
use renkei_site::{FileEntry, FileEntryKind, Selector};
use renkei_spiffe::{SpiffeId, TrustDomain};
use time::OffsetDateTime;
use tokio::sync::{Mutex, watch};

use crate::store::{DataStore, EntrySet, Registered, Registration, Source, StoreError};

/// The entries of a trust domain.
pub(crate) struct Entries {
    trust_domain: TrustDomain,
    store: Arc<dyn DataStore>,
    /// What the database has.
    image: RwLock<Arc<EntrySet>>,
    agent_part: watch::Sender<Arc<AgentPart>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Entries {
    /// Reads the entries back.
    pub(crate) async fn open(
        store: Arc<dyn DataStore>,
        trust_domain: TrustDomain,
    ) -> Result<Self, StoreError> {
        let image = Arc::new(store.entries().await?);
        let agent_part = Arc::new(agent_part(&image, &trust_domain));
        Ok(Self {
            trust_domain,
            store,
            image: RwLock::new(image),
            agent_part: watch::Sender::new(agent_part),
            changing: Mutex::default(),
        })
    }

    /// Makes the entries of a source equal to `wanted`, in one transaction. What stays as it is
    /// keeps its revision and is not written.
    pub(crate) async fn replace(
        &self,
        source: &Source,
        wanted: &[Registration],
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        if self.has_exactly(source, wanted) {
            return Ok(());
        }
        let set = self.store.replace_entries(source, wanted, now).await?;
        let part = agent_part(&set, &self.trust_domain);
        tracing::info!(%source, entries = wanted.len(), version = set.version, "entries changed");
        *self.image.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(set);
        self.agent_part.send_replace(Arc::new(part));
        Ok(())
    }

    fn has_exactly(&self, source: &Source, wanted: &[Registration]) -> bool {
        let image = self.image();
        let present = image.entries.values().filter(|one| one.source == *source);
        let is_same = |entry: &Registration| {
            let known = image.entries.get(&entry.id);
            known.is_some_and(|known| known.source == *source && known.entry == *entry)
        };
        present.count() == wanted.len() && wanted.iter().all(is_same)
    }

    /// The identity that an entry allows to be issued.
    pub(crate) fn identity(&self, id: &EntryId) -> Option<SpiffeId> {
        let image = self.image();
        let spiffe_id = &image.entries.get(id)?.entry.spiffe_id;
        // A trust domain's authority speaks for no other.
        let is_own = *spiffe_id.trust_domain() == self.trust_domain;
        is_own.then(|| spiffe_id.clone())
    }

    /// What the site's agent holds, as it changes.
    pub(crate) fn agent_part(&self) -> watch::Receiver<Arc<AgentPart>> {
        self.agent_part.subscribe()
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

    fn image(&self) -> Arc<EntrySet> {
        let image = self.image.read().unwrap_or_else(PoisonError::into_inner);
        image.clone()
    }
}

/// The entries that a site file asks for.
pub(crate) fn of_file(entries: &[FileEntry]) -> Vec<Registration> {
    let registration = |entry: &FileEntry| {
        let kind = match entry.kind {
            FileEntryKind::Server => EntryKind::Server,
            FileEntryKind::Service => EntryKind::Service,
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
            hint: entry.name.clone(),
            selectors: entry.selectors.iter().map(ToString::to_string).collect(),
        })
    };
    entries.iter().filter_map(registration).collect()
}

/// The entries as an agent takes them. One with a selector that this version cannot attest is
/// left out: without that selector more processes would match.
fn agent_part(set: &EntrySet, trust_domain: &TrustDomain) -> AgentPart {
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
                selectors,
            }),
            Err(error) => {
                tracing::warn!(entry = %known.entry.id, %error, "the entry is not given to agents");
                None
            }
        }
    };
    AgentPart {
        version: set.version,
        trust_domain: trust_domain.clone(),
        entries: set.entries.values().filter_map(entry).collect(),
    }
}

#[cfg(test)]
mod tests;
