//! The part of a node's proxy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::{
    Gateway, HostPort, Item, Selector, Service, Site, Use, Workload, reach::own_gateway,
    sni as server_name,
};

/// What the proxy of a node follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyPart {
    /// Rises with each change.
    pub version: u64,
    /// The trust domain that the node belongs to.
    pub trust_domain: TrustDomain,
    /// The identity of the site's server, which speaks on links to hubs.
    pub server_id: SpiffeId,
    /// Where other sites reach this node.
    pub gateway: Option<Gateway>,
    /// Where workloads of this node reach services.
    pub listeners: Vec<Listener>,
    /// What the node offers, by name.
    pub services: BTreeMap<String, Service>,
    /// The policies of services, by the name of the service.
    pub policies: BTreeMap<String, PolicySource>,
    /// The sites that it is linked with, and where their gateways are.
    pub peers: BTreeMap<TrustDomain, Option<HostPort>>,
    /// Peers that accept no connections and are reached through this site.
    pub relays: BTreeSet<TrustDomain>,
}

/// A local listener, through which a workload calls a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The name of the workload.
    pub workload: String,
    /// The identity of the workload, with which the service is called.
    pub caller: SpiffeId,
    /// What a process must be to use the listener; all must match.
    pub selectors: Vec<Selector>,
    /// The service that is called.
    pub target: SpiffeId,
    /// The address to open.
    pub listen: SocketAddr,
}

/// A policy as it was written. Who decides by it checks it with an evaluator of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySource {
    /// What the file is called.
    pub name: String,
    /// The rules, in Rego.
    pub text: Arc<str>,
}

impl Site {
    /// What the proxy of the site's node follows, with the policies that the caller has read, by
    /// the name of their service.
    pub fn proxy_part(&self, version: u64, policies: BTreeMap<String, PolicySource>) -> ProxyPart {
        let listener = |workload: &Workload, used: &Use| Listener {
            workload: workload.name.clone(),
            caller: workload.id.clone(),
            selectors: workload.selectors.clone(),
            target: used.target.clone(),
            listen: used.listen,
        };
        let workloads = self.workloads.values();
        let listeners = workloads.flat_map(|workload| {
            let uses = workload.uses.iter();
            uses.map(move |used| listener(workload, used))
        });
        let gateways = self.peers.iter();
        ProxyPart {
            version,
            trust_domain: self.trust_domain.clone(),
            server_id: self.server_id.clone(),
            gateway: self.gateway.clone(),
            listeners: listeners.collect(),
            services: self.services.clone(),
            policies,
            peers: gateways
                .map(|(name, peer)| (name.clone(), peer.gateway.clone()))
                .collect(),
            relays: self.relays.clone(),
        }
    }
}

impl Listener {
    /// Where the listener is in the site file.
    pub fn item(&self) -> Item {
        Item::Use(self.workload.clone(), self.target.clone())
    }
}

impl ProxyPart {
    /// The service that a server name means. Names are compared without regard to case.
    pub fn service_by_sni(&self, sni: &str) -> Option<&Service> {
        let sni = sni.to_ascii_lowercase();
        let label = sni
            .strip_suffix(self.trust_domain.as_str())?
            .strip_suffix('.')?;
        let is_named = |service: &&Service| service.id.path().strip_prefix('/') == Some(label);
        let named = self.services.get(label).filter(is_named);
        let mut others = self.services.values();
        named.or_else(|| others.find(|service| server_name(&service.id).as_ref() == Some(&sni)))
    }

    /// Where the gateway of a peer is dialled. A site that this one relays for is reached through
    /// this site's own gateway.
    pub fn gateway_of(&self, peer: &TrustDomain) -> Option<HostPort> {
        match self.relays.contains(peer) {
            true => own_gateway(self.gateway.as_ref()?),
            false => self.peers.get(peer)?.clone(),
        }
    }

    /// The site that this one relays for and that a server name belongs to: the trust domain
    /// itself, for its bundle endpoint, or a name within it. Of several that lie within each
    /// other, this site's own among them, the innermost. Compared without regard to case.
    pub fn relayed_by_sni(&self, sni: &str) -> Option<&TrustDomain> {
        let sni = sni.to_ascii_lowercase();
        let within = |name: &&TrustDomain| {
            let rest = sni.strip_suffix(name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let all = self.relays.iter().chain([&self.trust_domain]);
        let found = all.filter(within).max_by_key(|name| name.as_str().len());
        found.filter(|name| **name != self.trust_domain)
    }
}
