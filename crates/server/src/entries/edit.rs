//! Changes of single entries by callers of the API. All changes of one request are decided by one
//! state, and are one transaction.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use renkei_api::node::EntryId;
use time::OffsetDateTime;

use super::Entries;
use crate::store::{EntrySet, EntrySource, Registered, Registration, StoreError};

/// Entries of the API at most: agents and the server hold all of them in memory.
pub(crate) const MOST: usize = 50_000;

/// The entries as they will be.
pub(crate) struct Draft {
    stored: Arc<EntrySet>,
    changed: BTreeMap<EntryId, Registration>,
    removed: BTreeSet<EntryId>,
}

impl Draft {
    /// An entry, and where it comes from.
    pub(crate) fn get(&self, id: &EntryId) -> Option<(&Registration, &EntrySource)> {
        if let Some(entry) = self.changed.get(id) {
            return Some((entry, &EntrySource::API));
        }
        let known = self.stored.entries.get(id)?;
        (!self.removed.contains(id)).then_some((&known.entry, &known.source))
    }

    /// The entry of the API with the same ID, parent and selectors.
    pub(crate) fn equal_to(&self, entry: &Registration) -> Option<&EntryId> {
        let is_equal = |other: &&Registration| {
            other.spiffe_id == entry.spiffe_id
                && other.attributes.parent == entry.attributes.parent
                && set_of(other) == set_of(entry)
        };
        self.of_api().find(is_equal).map(|other| &other.id)
    }

    /// Whether one more has a place.
    pub(crate) fn has_place(&self) -> bool {
        self.of_api().count() < MOST
    }

    pub(crate) fn put(&mut self, entry: Registration) {
        self.removed.remove(&entry.id);
        self.changed.insert(entry.id.clone(), entry);
    }

    pub(crate) fn remove(&mut self, id: &EntryId) {
        self.changed.remove(id);
        if self.stored.entries.contains_key(id) {
            self.removed.insert(id.clone());
        }
    }

    /// The entries of the API.
    pub(crate) fn of_api(&self) -> impl Iterator<Item = &Registration> {
        let stays = |known: &&Registered| {
            let id = &known.entry.id;
            known.source == EntrySource::API
                && !self.changed.contains_key(id)
                && !self.removed.contains(id)
        };
        let stored = self.stored.entries.values().filter(stays);
        stored
            .map(|known| &known.entry)
            .chain(self.changed.values())
    }
}

fn set_of(entry: &Registration) -> BTreeSet<&String> {
    entry.selectors.iter().collect()
}

impl Entries {
    /// Changes entries of the API as `decide` says, in one transaction.
    ///
    /// # Errors
    /// The record failed; nothing has changed then.
    pub(crate) async fn edit<T>(
        &self,
        now: OffsetDateTime,
        decide: impl FnOnce(&mut Draft) -> T + Send,
    ) -> Result<T, StoreError> {
        let _turn = self.changing.lock().await;
        let mut draft = Draft {
            stored: self.stored(),
            changed: BTreeMap::new(),
            removed: BTreeSet::new(),
        };
        let decided = decide(&mut draft);
        let is_same = |entry: &Registration| {
            let known = draft.stored.entries.get(&entry.id);
            known.is_some_and(|known| known.entry == *entry)
        };
        let changed = draft.changed.values().filter(|one| !is_same(one));
        let changed: Vec<Registration> = changed.cloned().collect();
        let removed: Vec<EntryId> = draft.removed.iter().cloned().collect();
        if changed.is_empty() && removed.is_empty() {
            return Ok(decided);
        }
        let api = EntrySource::API;
        let set = self.store.change_entries(&api, &changed, &removed, now);
        let set = set.await?;
        tracing::info!(
            changed = changed.len(),
            removed = removed.len(),
            version = set.version,
            "entries of the API changed"
        );
        self.update(|image| image.stored = Arc::new(set));
        Ok(decided)
    }

    /// Removes the entries of the API that have ended by themselves.
    ///
    /// # Errors
    /// The record failed; they stay until the next try, and nothing is issued for them.
    pub(crate) async fn remove_expired(&self, now: OffsetDateTime) -> Result<(), StoreError> {
        let is_due = |known: &Registered| known.entry.is_expired(now);
        if !self.stored().entries.values().any(is_due) {
            return Ok(());
        }
        self.edit(now, |draft| {
            let ended = draft.of_api().filter(|entry| entry.is_expired(now));
            let ended: Vec<EntryId> = ended.map(|entry| entry.id.clone()).collect();
            ended.iter().for_each(|id| draft.remove(id));
        })
        .await
    }
}
