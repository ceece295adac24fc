//! The part of a node's proxy.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::{
    Gateway, HostPort, Item, NodeSpec, Selector, Service, Site, Use, Workload, nodes::Process,
    reach::own_gateway, sni as server_name,
};

/// What the proxy of a node follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProxyPart {
    /// Rises with each change.
    pub version: u64,
    /// The trust domain that the node belongs to.
    pub trust_domain: TrustDomain,
    /// The identity of the site's server. Those of other sites have the same path.
    pub server_id: SpiffeId,
    /// The identity with which this node speaks on links: its own, or that of the server for the
    /// process of the server.
    pub link_id: SpiffeId,
    /// Where other sites reach this node.
    pub gateway: Option<Gateway>,
    /// The gateways of the site that lead to services of this node, which keeps a link to each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<GatewayLink>,
    /// The server names of services that are reached through the gateway of this node, by the
    /// identity of the node that holds them and has a link to here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_services: BTreeMap<SpiffeId, Vec<String>>,
    /// Which of `links` connections to other sites leave by, if they do: the gateway at its far
    /// end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<SpiffeId>,
    /// The gateways of other sites that nodes may reach through this one, by the identity of the
    /// node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exits: BTreeMap<SpiffeId, BTreeMap<TrustDomain, HostPort>>,
    /// The gateway through which services of the own site are called, if this node has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site_gateway: Option<HostPort>,
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

/// A gateway of the own site that leads to services of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayLink {
    /// The address to dial.
    pub gateway: HostPort,
    /// The identity that the gateway must prove.
    pub id: SpiffeId,
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
    /// What the proxy in the process of the server follows, with the policies that the caller has
    /// read, by the name of their service.
    pub fn proxy_part(&self, version: u64, policies: BTreeMap<String, PolicySource>) -> ProxyPart {
        self.part_of(Process::Server, version, policies)
    }

    /// The same for a node.
    pub fn node_part(
        &self,
        node: &NodeSpec,
        version: u64,
        policies: BTreeMap<String, PolicySource>,
    ) -> ProxyPart {
        self.part_of(Process::Node(node), version, policies)
    }

    fn part_of(
        &self,
        process: Process<'_>,
        version: u64,
        mut policies: BTreeMap<String, PolicySource>,
    ) -> ProxyPart {
        let listeners = self.listeners_at(process);
        let services = self.services_at(process);
        policies.retain(|name, _| services.contains_key(name));
        let peers = match process {
            Process::Server => self.all_peers(),
            Process::Node(_) => self.peers_of_node(&listeners, &services),
        };
        let site_gateway = match self.gateway_at(process) {
            Some(_) => None,
            None => self.dialled_gateways().next().map(|(_, at)| at.clone()),
        };
        ProxyPart {
            version,
            trust_domain: self.trust_domain.clone(),
            server_id: self.server_id.clone(),
            link_id: self.link_id(process),
            gateway: self.gateway_at(process).cloned(),
            links: self.links_from(process),
            node_services: self.node_services_at(process),
            exit: self.exit_of(process).map(|exit| self.link_id(exit)),
            exits: self.exits_at(process),
            site_gateway,
            listeners,
            services,
            policies,
            peers,
            relays: match process {
                Process::Server => self.relays.clone(),
                Process::Node(_) => BTreeSet::new(),
            },
        }
    }

    fn listeners_at(&self, process: Process<'_>) -> Vec<Listener> {
        let listener = |workload: &Workload, used: &Use| Listener {
            workload: workload.name.clone(),
            caller: workload.id.clone(),
            selectors: workload.selectors.clone(),
            target: used.target.clone(),
            listen: used.listen,
        };
        let workloads = self.workloads.values();
        let here = workloads.filter(|workload| process.is_in(&workload.placement()));
        let listeners = here.flat_map(|workload| {
            let uses = workload.uses.iter();
            uses.map(move |used| listener(workload, used))
        });
        listeners.collect()
    }

    /// The services that a process holds. Where else they are is not its concern.
    fn services_at(&self, process: Process<'_>) -> BTreeMap<String, Service> {
        let services = self.services.iter();
        let here = services.filter(|(_, service)| process.is_in(&self.placement(service)));
        let without_nodes = |service: &Service| Service {
            on: Vec::new(),
            ..service.clone()
        };
        here.map(|(name, service)| (name.clone(), without_nodes(service)))
            .collect()
    }

    fn all_peers(&self) -> BTreeMap<TrustDomain, Option<HostPort>> {
        let peers = self.peers.iter();
        peers
            .map(|(name, peer)| (name.clone(), peer.gateway.clone()))
            .collect()
    }

    /// The peers of a node: those whose services it calls, with their gateways, and the names of
    /// all when it holds a service, whose policy may allow any of them.
    fn peers_of_node(
        &self,
        listeners: &[Listener],
        services: &BTreeMap<String, Service>,
    ) -> BTreeMap<TrustDomain, Option<HostPort>> {
        let mut peers = BTreeMap::new();
        for (name, peer) in &self.peers {
            let called = listeners
                .iter()
                .any(|listener| listener.target.trust_domain() == name);
            let gateway = match self.relays.contains(name) {
                true => self.advertised(),
                false => peer.gateway.as_ref(),
            };
            if called || !services.is_empty() {
                peers.insert(name.clone(), gateway.filter(|_| called).cloned());
            }
        }
        peers
    }

    /// The services that `holder` has and the gateway at `gateway` has not.
    fn behind<'a>(
        &'a self,
        gateway: Process<'a>,
        holder: Process<'a>,
    ) -> impl Iterator<Item = &'a Service> {
        self.services.values().filter(move |service| {
            let placement = self.placement(service);
            holder.is_in(&placement) && !gateway.is_in(&placement)
        })
    }

    fn links_from(&self, holder: Process<'_>) -> Vec<GatewayLink> {
        let leading = self.dialled_gateways().filter(|(gateway, _)| {
            let leads_here = self.behind(*gateway, holder).next().is_some();
            leads_here || self.exit_of(holder) == Some(*gateway)
        });
        leading
            .map(|(gateway, address)| GatewayLink {
                gateway: address.clone(),
                id: self.link_id(gateway),
            })
            .collect()
    }

    /// The gateway by which a process reaches other sites, if it does not dial them itself.
    fn exit_of<'a>(&'a self, process: Process<'a>) -> Option<Process<'a>> {
        match process {
            Process::Node(node) if node.via_gateway => {
                self.dialled_gateways().next().map(|(gateway, _)| gateway)
            }
            _ => None,
        }
    }

    /// The gateways of the sites that the workloads of a node call.
    fn called_from(&self, process: Process<'_>) -> BTreeMap<TrustDomain, HostPort> {
        let listeners = self.listeners_at(process);
        let peers = self.peers_of_node(&listeners, &BTreeMap::new()).into_iter();
        peers
            .filter_map(|(name, gateway)| Some((name, gateway?)))
            .collect()
    }

    fn exits_at(
        &self,
        gateway: Process<'_>,
    ) -> BTreeMap<SpiffeId, BTreeMap<TrustDomain, HostPort>> {
        let leaving = self.processes();
        let leaving = leaving.filter(|process| self.exit_of(*process) == Some(gateway));
        leaving
            .map(|process| (self.link_id(process), self.called_from(process)))
            .collect()
    }

    fn node_services_at(&self, gateway: Process<'_>) -> BTreeMap<SpiffeId, Vec<String>> {
        let dialled = self.dialled_gateways().any(|(known, _)| known == gateway);
        let holders = self.processes().filter(|_| dialled);
        let named = holders.map(|holder| {
            let services = self.behind(gateway, holder);
            let names = services.filter_map(|service| server_name(&service.id));
            (self.link_id(holder), names.collect::<Vec<String>>())
        });
        named.filter(|(_, names)| !names.is_empty()).collect()
    }
}

impl Listener {
    /// Where the listener is in the site file.
    pub fn item(&self) -> Item {
        Item::Use(self.workload.clone(), self.target.clone())
    }
}

impl ProxyPart {
    /// Takes no links of these nodes, and ends those that are there.
    pub fn without_nodes(&mut self, out: &BTreeSet<SpiffeId>) {
        self.node_services.retain(|node, _| !out.contains(node));
        self.exits.retain(|node, _| !out.contains(node));
    }

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

    /// The nodes through whose links a server name is reached, if it is that of a service behind
    /// them. Compared without regard to case.
    pub fn nodes_by_sni(&self, sni: &str) -> Vec<&SpiffeId> {
        let nodes = self.node_services.iter();
        let holding = nodes.filter(|(_, names)| {
            let mut names = names.iter();
            names.any(|name| name.eq_ignore_ascii_case(sni))
        });
        holding.map(|(id, _)| id).collect()
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
