//! Registration entries: who may be issued an identity. They follow from the site file and from
//! nothing else.

use std::collections::BTreeSet;

use renkei_api::status::EntryKind;
use renkei_site::Site;
use renkei_spiffe::SpiffeId;

/// One registration entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: SpiffeId,
    pub(crate) kind: EntryKind,
    /// As written: `unix:user:kafka`.
    pub(crate) selectors: Vec<String>,
}

/// Every entry of a site. A name that is both a service and a workload is one entry, with the
/// workload's selectors.
pub(crate) fn entries(site: &Site) -> Vec<Entry> {
    let ids: BTreeSet<SpiffeId> = site.entries().collect();
    ids.into_iter()
        .map(|id| {
            let workload = site.workloads.values().find(|workload| workload.id == id);
            let kind = match workload {
                Some(_) => EntryKind::Workload,
                None if id == site.server_id => EntryKind::Server,
                None => EntryKind::Service,
            };
            let selectors = workload
                .map(|workload| workload.selectors.iter().map(ToString::to_string).collect())
                .unwrap_or_default();
            Entry {
                id,
                kind,
                selectors,
            }
        })
        .collect()
}
