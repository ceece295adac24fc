//! Looking at entries: those of the site file and those of the API in one list.

use std::collections::BTreeSet;

use renkei_api::spire::api::{
    server::entry::v1::{ListEntriesRequest, ListEntriesResponse, list_entries_request},
    types::{Entry, EntryMask, federates_with_match},
};
use renkei_site::Placement;
use renkei_spiffe::{SpiffeId, TrustDomain};
use tonic::Status;

use super::{
    Shared, convert,
    pages::page,
    selectors::{BySelectors, Comparison},
};
use crate::{
    entries::{EVERY_AGENT, NODE, OWN_AGENT},
    store::{Attributes, Registered},
};

/// Entries as managers see them.
pub(super) struct View {
    trust_domain: TrustDomain,
    /// The workloads of the site file get the bundles of all of them.
    pub(super) peers: BTreeSet<TrustDomain>,
}

impl View {
    pub(super) fn of(shared: &Shared) -> Self {
        let parts = &shared.parts;
        let bundles = parts.bundles.snapshot();
        let peers = bundles.iter().map(|bundle| bundle.trust_domain.clone());
        Self {
            trust_domain: parts.trust_domain.clone(),
            peers: peers.filter(|name| *name != parts.trust_domain).collect(),
        }
    }

    /// An entry of the site file has no parent, but processes that it is on.
    fn parent(&self, known: &Registered) -> SpiffeId {
        if let Some(parent) = &known.entry.attributes.parent {
            return parent.clone();
        }
        let path = match &known.entry.on {
            Placement::Everywhere => EVERY_AGENT.to_owned(),
            Placement::Server => OWN_AGENT.to_owned(),
            Placement::Nodes(names) if names.len() == 1 => {
                format!("{NODE}{}", names.first().map_or("", String::as_str))
            }
            Placement::Nodes(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                format!("{EVERY_AGENT}/{}", names.join("/"))
            }
        };
        let id = SpiffeId::with_path(self.trust_domain.clone(), &path);
        // The names of very many nodes may be too long for one ID.
        id.unwrap_or_else(|_| self.trust_domain.id())
    }

    fn federates_with<'a>(&'a self, known: &'a Registered) -> &'a BTreeSet<TrustDomain> {
        match known.entry.attributes.parent {
            Some(_) => &known.entry.attributes.federates_with,
            None => &self.peers,
        }
    }

    pub(super) fn message(&self, known: &Registered, mask: Option<&EntryMask>) -> Option<Entry> {
        let federates_with = self.federates_with(known).iter();
        let federates_with: Vec<String> = federates_with.map(ToString::to_string).collect();
        let whole = convert::whole_entry();
        let mask = mask.unwrap_or(&whole);
        convert::entry(known, &self.parent(known), &federates_with, mask)
    }
}

/// What a list of entries is limited to.
struct Filter {
    spiffe_id: Option<SpiffeId>,
    parent_id: Option<SpiffeId>,
    selectors: Option<BySelectors>,
    federates_with: Option<(Comparison, BTreeSet<TrustDomain>)>,
    hint: Option<String>,
    downstream: Option<bool>,
}

impl Filter {
    fn parse(
        filter: Option<list_entries_request::Filter>,
        own: &TrustDomain,
    ) -> Result<Self, Status> {
        let filter = filter.unwrap_or_default();
        let malformed = |what: &str, fault: String| {
            Status::invalid_argument(format!("malformed {what}: {fault}"))
        };
        let id = |id: Option<_>, what: &str| match id {
            None => Ok(None),
            some => convert::own_id(some, own)
                .map(Some)
                .map_err(|fault| malformed(what, fault)),
        };
        let federates_with = match filter.by_federates_with {
            None => None,
            Some(wanted) => {
                let names = wanted.trust_domains.iter();
                let names = names.map(|name| convert::trust_domain(name));
                let names: Result<BTreeSet<_>, String> = names.collect();
                let what = "federates with filter";
                let names = names.map_err(|fault| malformed(what, fault))?;
                if names.is_empty() {
                    return Err(malformed(what, "empty trust domain set".to_owned()));
                }
                Some((comparison(wanted.r#match()), names))
            }
        };
        Ok(Self {
            spiffe_id: id(filter.by_spiffe_id, "SPIFFE ID filter")?,
            parent_id: id(filter.by_parent_id, "parent ID filter")?,
            selectors: BySelectors::parse(filter.by_selectors)
                .map_err(|fault| malformed("selectors filter", fault))?,
            federates_with,
            hint: filter.by_hint.filter(|hint| !hint.is_empty()),
            downstream: filter.by_downstream,
        })
    }

    fn takes(&self, known: &Registered, view: &View) -> bool {
        let entry = &known.entry;
        let Attributes { downstream, .. } = entry.attributes;
        self.spiffe_id
            .as_ref()
            .is_none_or(|id| *id == entry.spiffe_id)
            && self
                .parent_id
                .as_ref()
                .is_none_or(|id| *id == view.parent(known))
            && self
                .selectors
                .as_ref()
                .is_none_or(|wanted| wanted.takes(&entry.selectors))
            && self
                .federates_with
                .as_ref()
                .is_none_or(|(how, names)| how.holds(view.federates_with(known), names))
            && self.hint.as_ref().is_none_or(|hint| *hint == entry.hint)
            // `spire-server entry show` always asks for one of the two, and means all by false.
            && self.downstream.is_none_or(|wanted| !wanted || downstream)
    }
}

fn comparison(behavior: federates_with_match::MatchBehavior) -> Comparison {
    match behavior {
        federates_with_match::MatchBehavior::MatchExact => Comparison::Exact,
        federates_with_match::MatchBehavior::MatchSubset => Comparison::Subset,
        federates_with_match::MatchBehavior::MatchSuperset => Comparison::Superset,
        federates_with_match::MatchBehavior::MatchAny => Comparison::Any,
    }
}

pub(super) fn count(
    shared: &Shared,
    filter: Option<list_entries_request::Filter>,
) -> Result<i32, Status> {
    let filter = Filter::parse(filter, &shared.parts.trust_domain)?;
    let (view, all) = (View::of(shared), shared.parts.entries.all());
    let count = all.entries.values();
    let count = count.filter(|known| filter.takes(known, &view)).count();
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}

pub(super) fn list(
    shared: &Shared,
    request: ListEntriesRequest,
) -> Result<ListEntriesResponse, Status> {
    let filter = Filter::parse(request.filter, &shared.parts.trust_domain)?;
    let (view, all) = (View::of(shared), shared.parts.entries.all());
    let entries = all.entries.values();
    let entries = entries.filter(|known| filter.takes(known, &view));
    let wanted = (request.page_size, request.page_token.as_str());
    let (entries, next_page_token) = page(entries, |known| known.entry.id.to_string(), wanted)?;
    let mask = request.output_mask;
    let messages = entries
        .iter()
        .filter_map(|known| view.message(known, mask.as_ref()));
    Ok(ListEntriesResponse {
        entries: messages.collect(),
        next_page_token,
    })
}

pub(super) fn get(shared: &Shared, id: &str, mask: Option<&EntryMask>) -> Result<Entry, Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("missing ID"));
    }
    let known = convert::entry_id(id).and_then(|id| shared.parts.entries.get(&id));
    let known = known.and_then(|known| View::of(shared).message(&known, mask));
    known.ok_or_else(|| Status::not_found("entry not found"))
}
