//! Registration entries: who may be issued an identity. They follow from the site file and from
//! nothing else.

use std::collections::BTreeSet;

use renkei_site::Site;
use renkei_spiffe::SpiffeId;
use serde::Serialize;

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A local program, found by its selectors.
    Workload,
    /// A service that the gateway speaks for.
    Service,
    /// This site's own bundle endpoint.
    Server,
}

impl EntryKind {
    /// The word used in the database and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Service => "service",
            Self::Server => "server",
        }
    }
}

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
