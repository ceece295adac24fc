//! What a new site file changes.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{BundleSource, NodeSpec, Peer, Service, Site, Workload};

/// The part of a site file that a change is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// A key of the site itself, such as `gateway`.
    Site,
    /// An entry of `nodes`.
    Node,
    /// An entry of `peers`.
    Peer,
    /// An entry of `services`.
    Service,
    /// An entry of `workloads`.
    Workload,
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is only in the new file.
    Added,
    /// It is only in the old file.
    Removed,
    /// It is in both, with other contents.
    Changed,
}

/// A difference between two site files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The section of the site file.
    pub section: Section,
    /// Whether the entry was added, removed or changed.
    pub kind: ChangeKind,
    /// The name of the entry in its section.
    pub name: String,
    /// For a changed entry, the keys whose values differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<Cow<'static, str>>,
}

/// All that differs between two site files, in a fixed order. As text, one line per change.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Changes {
    changes: Vec<Change>,
}

/// What has to change to get from `old` to `new`. Comments, order and places do not count.
pub fn diff(old: &Site, new: &Site) -> Changes {
    let mut changes = site_changes(old, new);
    changes.extend(entries(Section::Node, &old.nodes, &new.nodes, node_keys));
    changes.extend(entries(Section::Peer, &old.peers, &new.peers, peer_keys));
    changes.extend(entries(
        Section::Service,
        &old.services,
        &new.services,
        service_keys,
    ));
    changes.extend(entries(
        Section::Workload,
        &old.workloads,
        &new.workloads,
        workload_keys,
    ));
    Changes { changes }
}

impl Changes {
    /// Whether both files say the same.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// All differences, in the order of the sections.
    pub fn iter(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter()
    }

    /// The changes of one section.
    pub fn of(&self, section: Section) -> impl Iterator<Item = &Change> {
        self.changes
            .iter()
            .filter(move |change| change.section == section)
    }

    /// Why the new file cannot be applied to a running site, if so. All else applies live.
    pub fn needs_restart(&self) -> Option<&'static str> {
        let reasons = [
            ("site", "the state folder is named after the site"),
            (
                "trust_domain",
                "another trust domain is another site, with its own authority",
            ),
            ("admin", "the admin port is opened once, at the start"),
            (
                "server",
                "the server's port for nodes is opened once, at the start",
            ),
            (
                "bundle_endpoint",
                "the bundle endpoint is opened once, at the start",
            ),
            (
                "workload_api",
                "the Workload API gets its limits once, at the start",
            ),
        ];
        let changed = |key: &str| self.of(Section::Site).any(|change| change.name == key);
        reasons
            .into_iter()
            .find(|(key, _)| changed(key))
            .map(|(_, reason)| reason)
    }
}

fn site_changes(old: &Site, new: &Site) -> Vec<Change> {
    [
        always("site", old.name == new.name),
        always("trust_domain", old.trust_domain == new.trust_domain),
        optional("gateway", &old.gateway, &new.gateway),
        optional("server", &old.server, &new.server),
        key_change(
            "relays",
            (!old.relays.is_empty(), !new.relays.is_empty()),
            old.relays == new.relays,
        ),
        optional(
            "bundle_endpoint",
            &old.bundle_endpoint,
            &new.bundle_endpoint,
        ),
        optional("federation", &old.federation, &new.federation),
        always("lifetimes", old.lifetimes == new.lifetimes),
        always("workload_api", old.workload_api == new.workload_api),
        optional("admin", &old.admin, &new.admin),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A key that every site has, be it by a default.
fn always(key: &str, same: bool) -> Option<Change> {
    key_change(key, (true, true), same)
}

fn optional<T: PartialEq>(key: &str, old: &Option<T>, new: &Option<T>) -> Option<Change> {
    key_change(key, (old.is_some(), new.is_some()), old == new)
}

fn key_change(key: &str, written: (bool, bool), same: bool) -> Option<Change> {
    let kind = match written {
        (false, true) => ChangeKind::Added,
        (true, false) => ChangeKind::Removed,
        _ if !same => ChangeKind::Changed,
        _ => return None,
    };
    Some(Change {
        section: Section::Site,
        kind,
        name: key.to_owned(),
        keys: Vec::new(),
    })
}

/// The changes of one mapping of entries. `keys` names what differs between two of them.
fn entries<K: Ord + ToString, V: PartialEq>(
    section: Section,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    keys: impl Fn(&V, &V) -> Vec<Cow<'static, str>>,
) -> Vec<Change> {
    let change = |kind, name: &K, keys| Change {
        section,
        kind,
        name: name.to_string(),
        keys,
    };
    let removed = old.keys().filter(|name| !new.contains_key(name));
    let removed = removed.map(|name| change(ChangeKind::Removed, name, Vec::new()));
    let kept = new.iter().filter_map(|(name, value)| match old.get(name) {
        None => Some(change(ChangeKind::Added, name, Vec::new())),
        Some(before) if before != value => {
            Some(change(ChangeKind::Changed, name, keys(before, value)))
        }
        Some(_) => None,
    });
    let mut changes: Vec<Change> = removed.chain(kept).collect();
    changes.sort_by(|one, other| one.name.cmp(&other.name));
    changes
}

fn differing<const N: usize>(keys: [(&'static str, bool); N]) -> Vec<Cow<'static, str>> {
    keys.into_iter()
        .filter(|(_, same)| !same)
        .map(|(key, _)| Cow::Borrowed(key))
        .collect()
}

fn node_keys(old: &NodeSpec, new: &NodeSpec) -> Vec<Cow<'static, str>> {
    // The identity follows from name and trust domain.
    differing([
        ("gateway", old.gateway == new.gateway),
        ("via", old.via_gateway == new.via_gateway),
    ])
}

fn peer_keys(old: &Peer, new: &Peer) -> Vec<Cow<'static, str>> {
    let by_identity = |peer: &Peer| matches!(peer.bundle, BundleSource::Identity(_));
    let bundle = match by_identity(old) && by_identity(new) {
        true => "identity",
        false => "bundle",
    };
    differing([
        (bundle, old.bundle == new.bundle),
        ("gateway", old.gateway == new.gateway),
    ])
}

fn service_keys(old: &Service, new: &Service) -> Vec<Cow<'static, str>> {
    differing([
        ("id", old.id == new.id),
        ("on", old.on == new.on),
        ("protocol", old.protocol == new.protocol),
        ("backends", old.backends == new.backends),
        ("allow", old.allow == new.allow),
        ("methods", old.methods == new.methods),
        (
            "response_timeout",
            old.response_timeout == new.response_timeout,
        ),
        ("topics", old.topics == new.topics),
        ("bandwidth", old.bandwidth == new.bandwidth),
        (
            "caller_bandwidth",
            old.caller_bandwidth == new.caller_bandwidth,
        ),
        ("policy", old.policy == new.policy),
    ])
}

fn workload_keys(old: &Workload, new: &Workload) -> Vec<Cow<'static, str>> {
    differing([
        ("id", old.id == new.id),
        ("hint", old.hint == new.hint),
        ("default", old.is_default == new.is_default),
        ("selectors", old.selectors == new.selectors),
        ("on", old.on == new.on),
        ("uses", old.uses == new.uses),
    ])
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.kind {
            ChangeKind::Added => '+',
            ChangeKind::Removed => '-',
            ChangeKind::Changed => '~',
        };
        let section = match self.section {
            Section::Site => "",
            Section::Node => "node ",
            Section::Peer => "peer ",
            Section::Service => "service ",
            Section::Workload => "workload ",
        };
        write!(f, "{sign} {section}{}", self.name)?;
        if !self.keys.is_empty() {
            write!(f, " ({})", self.keys.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, change) in self.changes.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            write!(f, "{end}{change}")?;
        }
        Ok(())
    }
}
