//! What is known of a site while the rest of its file is read.

use std::collections::{BTreeMap, BTreeSet};

use renkei_spiffe::{SpiffeId, TrustDomain};

use super::{
    fields::{Entry, Fields, Reader, Wrong},
    peers, values,
};
use crate::node::{Node, Value};

/// What is known of the site while the rest is read.
pub(super) struct Context<'a> {
    pub(super) own: Option<TrustDomain>,
    pub(super) peers: peers::Known,
    pub(super) services: BTreeSet<&'a str>,
    pub(super) workloads: BTreeSet<&'a str>,
    pub(super) nodes: BTreeSet<&'a str>,
    /// The IDs of those services and workloads that have one of their own, by name.
    pub(super) ids: BTreeMap<&'a str, SpiffeId>,
    /// Those of services.
    pub(super) service_ids: BTreeSet<SpiffeId>,
}

impl<'a> Context<'a> {
    /// What the names and IDs of all sections say, before the sections themselves are read.
    pub(super) fn read(own: Option<TrustDomain>, peers: peers::Known, fields: &Fields<'a>) -> Self {
        let (offered, running) = (fields.get("services"), fields.get("workloads"));
        let of_services = explicit_ids(offered, own.as_ref());
        let of_workloads = explicit_ids(running, own.as_ref());
        Self {
            service_ids: of_services.iter().map(|(_, id)| id.clone()).collect(),
            ids: of_services.into_iter().chain(of_workloads).collect(),
            own,
            peers,
            services: names(offered),
            workloads: names(running),
            nodes: names(fields.get("nodes")),
        }
    }

    /// Whether this site has a service of that ID, whatever else is wrong with it.
    pub(super) fn has_service(&self, id: &SpiffeId) -> bool {
        let name = id.path().trim_start_matches('/');
        let is_named = self.services.contains(name) && !self.ids.contains_key(name);
        is_named || self.service_ids.contains(id)
    }

    /// `osaka.example` alone would be the site's own workload of that name; an author
    /// who writes it means every identity of Osaka, and must not get the one for the other.
    pub(super) fn is_no_trust_domain(&self, text: &str) -> Result<(), Wrong> {
        let linked = |name: &TrustDomain| {
            self.own.as_ref() == Some(name)
                || self.peers.has_gateway.contains_key(name)
                || self.may_be_a_member(name)
        };
        match TrustDomain::parse(text).ok().filter(linked) {
            Some(name) => Err(Wrong::new(
                format!("{name} names a whole trust domain"),
                format!("write {name}/NAME for each identity"),
            )),
            None => Ok(()),
        }
    }

    /// In a federation any DNS name may be a member's, unless something here has that name.
    fn may_be_a_member(&self, name: &TrustDomain) -> bool {
        let name = name.as_str();
        let here = self.services.contains(name) || self.workloads.contains(name);
        self.peers.incomplete && name.contains('.') && !here
    }
}

/// The `id` of each entry of a mapping that has a good one. What is wrong with the others is said
/// where the entry itself is read.
fn explicit_ids<'a>(of: Option<Entry<'a>>, own: Option<&TrustDomain>) -> Vec<(&'a str, SpiffeId)> {
    let Some(Value::Map(entries)) = of.map(|of| &of.value.value) else {
        return Vec::new();
    };
    let id = |value: &Node| {
        let Value::Map(fields) = &value.value else {
            return None;
        };
        let (_, id) = fields.iter().find(|(key, _)| key.as_text() == Some("id"))?;
        values::own_identity(id.as_text()?, own).ok()?
    };
    let explicit = entries.iter();
    explicit
        .filter_map(|(key, value)| Some((key.as_text()?, id(value)?)))
        .collect()
}

/// The ID of a service or workload: its `id`, or else its name.
pub(super) fn own_id(
    reader: &mut Reader,
    of: Entry<'_>,
    fields: &Fields<'_>,
    context: &Context<'_>,
) -> Option<SpiffeId> {
    match fields.get("id") {
        Some(entry) => {
            let read = |text: &str| values::own_identity(text, context.own.as_ref());
            reader.field(entry, "/ns/prod/sa/web", read)?
        }
        None => SpiffeId::with_path(context.own.clone()?, &format!("/{}", of.key)).ok(),
    }
}

/// Reads an identity of the site's own trust domain or a peer's.
pub(super) fn linked_identity(
    reader: &mut Reader,
    node: &Node,
    what: &str,
    context: &Context<'_>,
) -> Option<SpiffeId> {
    let own = context.own.as_ref();
    let example = "osaka.example/collector";
    let id = reader.scalar(node, what, example, |text| {
        context.is_no_trust_domain(text)?;
        match context.ids.get(text) {
            Some(id) => Ok(Some(id.clone())),
            None => values::identity(text, own),
        }
    })??;
    let td = id.trust_domain();
    if own.is_some_and(|own| own != td) && !context.peers.contains(td) {
        let near = context.peers.nearest(td);
        let hint = match near {
            Some(near) => format!("did you mean `{near}{}`?", id.path()),
            None => {
                format!(
                    "add `{td}: {{gateway: HOST:PORT, identity: IDENTITY}}` to `peers`, or join its federation"
                )
            }
        };
        let message = format!("{td} is neither this site's trust domain nor a peer's");
        reader.fault(node.place, message, hint);
        return None;
    }
    Some(id)
}

/// The keys of a mapping, whatever their entries are.
fn names<'a>(of: Option<Entry<'a>>) -> BTreeSet<&'a str> {
    match of.map(|of| &of.value.value) {
        Some(Value::Map(entries)) => entries
            .iter()
            .filter_map(|(key, _)| key.as_text())
            .collect(),
        _ => BTreeSet::new(),
    }
}
