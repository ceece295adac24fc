//! The server's part.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use crate::{
    ApiServer, BundleEndpoint, BundleSource, BundleWay, FederationFile, HostPort, Lifetimes,
    NodeSpec, Peer, Placement, Protocol, Selector, Service, Site, Workload,
};

/// What the server follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerPart {
    /// Rises with each change.
    pub version: u64,
    /// The trust domain whose authority the server is.
    pub trust_domain: TrustDomain,
    /// The identity under which the bundle is served.
    pub server_id: SpiffeId,
    /// Where nodes and SPIRE agents come to.
    pub api: Option<ApiServer>,
    /// The identities of the site file.
    pub entries: Vec<FileEntry>,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
    /// Where the bundles of peers come from.
    pub peers: BTreeMap<TrustDomain, PeerBundle>,
    /// Where the bundle is also served to clients that trust the web's certificates.
    pub bundle_endpoint: Option<BundleEndpoint>,
    /// The federation to follow.
    pub federation: Option<FederationPart>,
    /// What this site publishes about itself, besides its bundle.
    pub announcement: Announcement,
}

/// An identity that the site file asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The name in its section of the file.
    pub name: String,
    /// The SPIFFE ID to issue.
    pub id: SpiffeId,
    /// What it is for.
    pub kind: FileEntryKind,
    /// The processes whose agents get it.
    pub on: Placement,
    /// By what a process distinguishes this identity from its others.
    pub hint: String,
    /// A process with several identities gets this one first.
    pub is_default: bool,
    /// What a process must be to get it; empty for what is not a workload's.
    pub selectors: Vec<Selector>,
}

/// What an identity of the site file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileEntryKind {
    /// The site's own server.
    Server,
    /// An entry of `services`.
    Service,
    /// An entry of `nodes`: the identity of that node itself.
    Node,
    /// An entry of `workloads`.
    Workload,
}

/// Where the bundle of a peer comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerBundle {
    /// A file, a bundle endpoint, or the federation.
    pub source: BundleSource,
    /// How the bundle endpoint is reached, if that is through the peer's gateway.
    pub way: Option<BundleWay>,
}

/// A federation, and what this site says in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FederationPart {
    /// What the federation file says.
    pub file: Arc<FederationFile>,
    /// The site file, for messages that say what to do with it.
    pub site_file: String,
    /// Trust domains that are never members for this site.
    pub deny: BTreeSet<TrustDomain>,
    /// The members with their identities, when this site decides instead of the registrar.
    pub admit: Option<BTreeMap<TrustDomain, String>>,
}

/// What a site publishes about itself, besides its bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// Where other sites reach this one; the hub's address, if it has one.
    pub gateway: Option<HostPort>,
    /// This site is reached through a hub.
    pub behind_hub: bool,
    /// What this site offers to members of its federation; nothing without one.
    pub services: BTreeMap<String, Protocol>,
}

/// How a service is called in a federation: the path of its ID, if that is as short as a name may
/// be there.
fn announced(service: &Service) -> String {
    const LONGEST: usize = 63;
    let path = service.id.path().trim_start_matches('/');
    match path.len() <= LONGEST {
        true => path.to_owned(),
        false => service.name.clone(),
    }
}

impl Site {
    /// What the server follows.
    pub fn server_part(&self, version: u64) -> ServerPart {
        let bundle = |(name, peer): (&TrustDomain, &Peer)| {
            let bundle = PeerBundle {
                source: peer.bundle.clone(),
                way: self.bundle_way(peer),
            };
            (name.clone(), bundle)
        };
        ServerPart {
            version,
            trust_domain: self.trust_domain.clone(),
            server_id: self.server_id.clone(),
            api: self.server.clone(),
            entries: self.entries(),
            lifetimes: self.lifetimes,
            peers: self.peers.iter().map(bundle).collect(),
            bundle_endpoint: self.bundle_endpoint.clone(),
            federation: self.federation_part(),
            announcement: self.published(),
        }
    }

    fn federation_part(&self) -> Option<FederationPart> {
        let federated = self.federation.as_ref()?;
        Some(FederationPart {
            file: federated.file.clone()?,
            site_file: self.file().to_owned(),
            deny: federated.deny.clone(),
            admit: federated.admit.clone(),
        })
    }

    /// Every stranger can read what a site publishes. So its services are named to the members of
    /// a federation only.
    fn published(&self) -> Announcement {
        let announcement = self.announcement();
        match &self.federation {
            Some(_) => announcement,
            None => Announcement {
                services: BTreeMap::new(),
                ..announcement
            },
        }
    }

    /// What this site publishes about itself in a federation.
    pub fn announcement(&self) -> Announcement {
        let services = self.services.values();
        Announcement {
            gateway: self.advertised().cloned(),
            behind_hub: self.gateway.as_ref().is_some_and(|it| it.via.is_some()),
            services: services
                .map(|service| (announced(service), service.protocol))
                .collect(),
        }
    }

    /// Every identity that the site file asks for.
    fn entries(&self) -> Vec<FileEntry> {
        let server = FileEntry {
            name: "server".to_owned(),
            id: self.server_id.clone(),
            kind: FileEntryKind::Server,
            on: Placement::Server,
            hint: "server".to_owned(),
            is_default: false,
            selectors: Vec::new(),
        };
        let node = |node: &NodeSpec| FileEntry {
            name: node.name.clone(),
            id: node.id.clone(),
            kind: FileEntryKind::Node,
            on: Placement::Nodes([node.name.clone()].into()),
            hint: node.name.clone(),
            is_default: false,
            selectors: Vec::new(),
        };
        let service = |service: &Service| FileEntry {
            name: service.name.clone(),
            id: service.id.clone(),
            kind: FileEntryKind::Service,
            on: self.placement(service),
            hint: service.name.clone(),
            is_default: false,
            selectors: Vec::new(),
        };
        let workload = |workload: &Workload| FileEntry {
            name: workload.name.clone(),
            id: workload.id.clone(),
            kind: FileEntryKind::Workload,
            on: workload.placement(),
            hint: workload.hint.clone(),
            is_default: workload.is_default,
            selectors: workload.selectors.clone(),
        };
        let services = self.services.values().map(service);
        let workloads = self.workloads.values().map(workload);
        std::iter::once(server)
            .chain(self.nodes.values().map(node))
            .chain(services)
            .chain(workloads)
            .collect()
    }
}
