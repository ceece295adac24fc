//! Who may ask for which entries.
//!
//! An entry of the site file says on which processes it is. An entry of the API has a parent: an
//! agent, an alias of agents, or the identity of another entry. Who holds the parent may ask for
//! the entry, and so on downwards.

use std::collections::{BTreeMap, BTreeSet};

use renkei_api::{node::EntryId, status::EntryKind};
use renkei_site::Placement;
use renkei_spiffe::{SpiffeId, TrustDomain};

use crate::store::{EntrySet, Registered, Registration};

/// The alias that every agent of the trust domain has, the server's own among them.
pub(crate) const EVERY_AGENT: &str = "/renkei/nodes";
/// The agent in the server's own process.
pub(crate) const OWN_AGENT: &str = "/renkei/server";
/// The parent of an entry that gives an alias to agents, by their selectors.
const SERVER: &str = "/spire/server";
/// The path of a Renkei node begins so.
pub(crate) const NODE: &str = "/renkei/node/";

/// Who may ask for entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryHolder {
    /// The agent in the server's own process.
    Own,
    /// A Renkei node, by its name in the site file.
    Node(String),
    /// The agent of another make, such as SPIRE's.
    Agent(SpiffeId),
}

impl EntryHolder {
    /// The entries that it may ask for, in the order of their IDs.
    pub(crate) fn held<'a>(
        &self,
        set: &'a EntrySet,
        trust_domain: &TrustDomain,
    ) -> Vec<&'a Registered> {
        let below = Below::of(set);
        let mut held = BTreeMap::new();
        let mut parents = self.parents(set, trust_domain);
        for known in set.entries.values() {
            if known.entry.attributes.parent.is_none() && self.is_place_of(&known.entry) {
                parents.push(known.entry.spiffe_id.clone());
                held.insert(&known.entry.id, known);
            }
        }
        below.collect(parents, &mut held);
        held.into_values().collect()
    }

    /// Least privilege: a node that is broken into asks for what it runs, and for nothing else.
    fn is_place_of(&self, entry: &Registration) -> bool {
        match self {
            Self::Own => entry.on.includes_server(),
            Self::Node(name) => entry.on.includes_node(name),
            Self::Agent(_) => {
                entry.kind == EntryKind::Workload && entry.on == Placement::Everywhere
            }
        }
    }

    /// Its ID and its aliases.
    fn parents(&self, set: &EntrySet, trust_domain: &TrustDomain) -> Vec<SpiffeId> {
        let with_path = |path: &str| SpiffeId::with_path(trust_domain.clone(), path).ok();
        let id = match self {
            Self::Own => with_path(OWN_AGENT),
            Self::Node(name) => with_path(&format!("{NODE}{name}")),
            Self::Agent(id) => Some(id.clone()),
        };
        let selector = id.as_ref().map(|id| format!("spiffe_id:{id}"));
        let gives_alias = |entry: &&Registration| {
            let parent = entry.attributes.parent.as_ref();
            let of_server = parent.is_some_and(|parent| parent.path() == SERVER);
            let mut wanted = entry.selectors.iter();
            of_server
                && !entry.selectors.is_empty()
                && wanted.all(|wanted| Some(wanted) == selector.as_ref())
        };
        let entries = set.entries.values().map(|known| &known.entry);
        let aliases = entries.filter(gives_alias);
        let mut parents: Vec<SpiffeId> = aliases.map(|entry| entry.spiffe_id.clone()).collect();
        parents.extend(id);
        parents.extend(with_path(EVERY_AGENT));
        parents
    }
}

/// Entries by their parent.
struct Below<'a>(BTreeMap<&'a SpiffeId, Vec<&'a Registered>>);

impl<'a> Below<'a> {
    fn of(set: &'a EntrySet) -> Self {
        let mut below: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for known in set.entries.values() {
            if let Some(parent) = &known.entry.attributes.parent {
                below.entry(parent).or_default().push(known);
            }
        }
        Self(below)
    }

    /// Puts in what is below these parents, at any depth. A chain may be a circle.
    fn collect(&self, parents: Vec<SpiffeId>, held: &mut BTreeMap<&'a EntryId, &'a Registered>) {
        let mut seen: BTreeSet<SpiffeId> = BTreeSet::new();
        let mut next = parents;
        while let Some(parent) = next.pop() {
            if seen.contains(&parent) {
                continue;
            }
            for known in self.0.get(&parent).into_iter().flatten() {
                held.insert(&known.entry.id, known);
                next.push(known.entry.spiffe_id.clone());
            }
            seen.insert(parent);
        }
    }
}
