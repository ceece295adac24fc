//! What an update becomes: parts for the agent and the proxy, and bundles. A part that cannot be
//! taken leaves the one before in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use renkei_api::{node::AgentPart, node_stream::Fault};
use renkei_site::ProxyPart;
use renkei_spiffe::{BundleSet, TrustDomain};
use tokio::sync::watch;

use super::{ProxyUpdate, Revision, error::PartError, update::Update};

/// Where the agent and the proxy of the node read what they are to do.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) own: TrustDomain,
    /// No proxy runs here: what is for no workload is not asked for.
    pub(super) workloads_only: bool,
    pub(super) part: watch::Sender<Arc<AgentPart>>,
    pub(super) bundles: watch::Sender<Arc<BundleSet>>,
    pub(super) proxy: watch::Sender<Option<ProxyUpdate>>,
}

impl Wanted {
    /// Publishes what of the update can be taken, and gives the faults of the rest. Bundles come
    /// first: what is issued next is verified with them.
    pub(super) fn take(&self, revision: Revision, update: Update) -> Vec<Fault> {
        let mut faults = update.faults;
        let mut note = |item: &str, error: PartError| {
            faults.push(Fault {
                item: item.to_owned(),
                reason: error.to_string(),
            });
        };
        match update.bundles.and_then(|bundles| self.usable(bundles)) {
            Ok(bundles) => replace_if_other(&self.bundles, bundles),
            Err(error) => note("bundles", error),
        }
        match update.agent.and_then(|part| self.agent_part(part)) {
            Ok(part) => replace_if_other(&self.part, part),
            Err(error) => note("identities", error),
        }
        let proxy = update.proxy.map(|part| {
            let part = part?;
            self.is_own(&part.trust_domain).map(|()| Arc::new(part))
        });
        match proxy {
            None => {}
            Some(Ok(part)) => {
                self.proxy
                    .send_replace(Some(ProxyUpdate { revision, part }));
            }
            Some(Err(error)) => note("services and listeners", error),
        }
        faults
    }

    /// The server has banned or removed the node: it has no identities, listeners and services
    /// any more, until the server says otherwise.
    pub(super) fn take_away(&self) {
        self.part.send_if_modified(|part| {
            let had_entries = !part.entries.is_empty();
            if had_entries {
                tracing::error!("the server has put this node out: it serves nothing any more");
                Arc::make_mut(part).entries.clear();
            }
            had_entries
        });
        self.proxy.send_if_modified(|update| {
            let Some(update) = update else {
                return false;
            };
            let empty = emptied(&update.part);
            let had_any = *update.part != empty;
            if had_any {
                *update = ProxyUpdate {
                    revision: Revision::NONE,
                    part: Arc::new(empty),
                };
            }
            had_any
        });
    }

    fn agent_part(&self, mut part: AgentPart) -> Result<AgentPart, PartError> {
        self.is_own(&part.trust_domain)?;
        if self.workloads_only {
            part.entries.retain(|entry| !entry.selectors.is_empty());
        }
        Ok(part)
    }

    fn is_own(&self, trust_domain: &TrustDomain) -> Result<(), PartError> {
        match *trust_domain == self.own {
            true => Ok(()),
            false => Err(PartError::OtherTrustDomain(trust_domain.clone())),
        }
    }

    /// A set without authorities of the own trust domain would shut the node off for good.
    fn usable(&self, bundles: BundleSet) -> Result<BundleSet, PartError> {
        let own = bundles.get(&self.own);
        match own.is_some_and(|own| !own.x509_authorities.is_empty()) {
            true => Ok(bundles),
            false => Err(PartError::NoAuthorities),
        }
    }
}

/// The part of a node that does nothing.
fn emptied(part: &ProxyPart) -> ProxyPart {
    ProxyPart {
        version: part.version,
        trust_domain: part.trust_domain.clone(),
        server_id: part.server_id.clone(),
        link_id: part.link_id.clone(),
        gateway: None,
        links: Vec::new(),
        node_services: BTreeMap::new(),
        exit: None,
        exits: BTreeMap::new(),
        site_gateway: None,
        listeners: Vec::new(),
        services: BTreeMap::new(),
        policies: BTreeMap::new(),
        peers: BTreeMap::new(),
        relays: BTreeSet::new(),
    }
}

fn replace_if_other<T: PartialEq>(published: &watch::Sender<Arc<T>>, next: T) {
    published.send_if_modified(|now| {
        let is_other = **now != next;
        if is_other {
            *now = Arc::new(next);
        }
        is_other
    });
}
