//! The desired state of a site, as the roles follow it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use renkei_access::{MethodRule, TopicRights};
use renkei_spiffe::{IdError, SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

use crate::{
    BackendAddress, Bandwidth, Faults, FederationFile, HostPort, Item, Lifetimes, PinnedIdentity,
    Place, Selector,
    address::{is_dns_label, is_dns_name},
    place::SourceMap,
};

/// The path of the identity under which a site's own gateway serves its bundle.
pub(crate) const SERVER_PATH: &str = "/renkei/server";

/// Of the digest that replaces a path in a server name: too many to meet another by chance, and
/// few enough for a label.
const DIGEST_BYTES: usize = 20;

/// A site: what its file says, checked and resolved. Sites are equal if they say the same, even
/// when their files are written differently.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Site {
    /// The name of the site, for people.
    pub name: String,
    /// The trust domain whose authority the site is.
    pub trust_domain: TrustDomain,
    /// The identity under which the site's gateway serves its bundle:
    /// `spiffe://TRUST-DOMAIN/renkei/server`.
    pub server_id: SpiffeId,
    /// Where other sites reach this one.
    pub gateway: Option<Gateway>,
    /// Where nodes and SPIRE agents reach the site's server.
    pub server: Option<ApiServer>,
    /// The other machines of the site, by name.
    pub nodes: BTreeMap<String, NodeSpec>,
    /// Where the bundle is also served to clients that trust the web's certificates (https_web).
    pub bundle_endpoint: Option<BundleEndpoint>,
    /// Sites that this one is linked with.
    pub peers: BTreeMap<TrustDomain, Peer>,
    /// Peers that accept no connections: this site is the hub through which others reach them.
    pub relays: BTreeSet<TrustDomain>,
    /// The federation whose members this one is linked with.
    pub federation: Option<Federated>,
    /// What this site offers, by name.
    pub services: BTreeMap<String, Service>,
    /// What runs at this site and calls others, by name.
    pub workloads: BTreeMap<String, Workload>,
    /// How long certificates live.
    pub lifetimes: Lifetimes,
    /// What clients of the Workload API may take up.
    pub workload_api: WorkloadApiLimits,
    /// Where metrics and health are served; a loopback address.
    pub admin: Option<SocketAddr>,
    pub(crate) source: SourceMap,
}

/// Where other sites reach this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// The address that the gateway binds; nothing if the hub alone leads here.
    pub listen: Option<SocketAddr>,
    /// The address that other sites dial; with `via` it is the hub's
    /// (`Site::advertised`).
    pub advertise: Option<HostPort>,
    /// The peer that is the hub through which others reach this site.
    pub via: Option<TrustDomain>,
    /// How many lanes a trunk may have, if not as many as the proxy thinks useful.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lanes: Option<usize>,
    /// What the connections with all other sites may carry together, in each direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
}

/// Where nodes and SPIRE agents reach the site's server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiServer {
    /// The address that the server binds.
    pub listen: SocketAddr,
    /// The address that nodes dial.
    pub advertise: HostPort,
}

/// A machine of the site, besides the one of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// The name under `nodes`; a DNS label.
    pub name: String,
    /// `spiffe://TRUST-DOMAIN/renkei/node/NAME`.
    pub id: SpiffeId,
    /// Where other sites reach services through this node; never with `via`.
    pub gateway: Option<Gateway>,
    /// Its connections to other sites leave through a gateway of the site.
    pub via_gateway: bool,
}

/// A bundle endpoint of profile https_web.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleEndpoint {
    /// The address that the endpoint binds.
    pub listen: SocketAddr,
    /// PEM file of the endpoint's web certificate chain.
    pub certificate: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

/// A federation that this site is a member of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federated {
    /// The file that names log, registrar and witnesses.
    pub path: PathBuf,
    /// Trust domains that are never members for this site.
    pub deny: BTreeSet<TrustDomain>,
    /// The members with their identities, when this site decides instead of the registrar.
    pub admit: Option<BTreeMap<TrustDomain, String>>,
    /// What the file says, once the caller has read it.
    pub file: Option<Arc<FederationFile>>,
}

/// A site that this one is linked with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// The trust domain of the peer.
    pub trust_domain: TrustDomain,
    /// Where its bundle comes from.
    pub bundle: BundleSource,
    /// Where its services are reached. Callers alone need none.
    pub gateway: Option<HostPort>,
}

/// Where a peer's bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BundleSource {
    /// A bundle document on disk.
    File(PathBuf),
    /// A bundle endpoint that proves itself with a web certificate (SPIFFE_Federation 5.2.1).
    HttpsWeb {
        /// The URL of the bundle endpoint.
        url: Url,
        /// PEM file of the authorities to trust in place of the system's.
        roots: Option<PathBuf>,
    },
    /// A bundle endpoint that proves itself with an SVID of the peer (SPIFFE_Federation 5.2.2).
    HttpsSpiffe {
        /// The URL of the bundle endpoint.
        url: Url,
        /// Who the endpoint must be.
        endpoint_id: SpiffeId,
        /// The bundle document to trust until the first fetch.
        bootstrap: PathBuf,
    },
    /// The peer's own signed statement, at its gateway, verified from its identity on.
    Identity(PinnedIdentity),
    /// The federation; no site file says so of a single peer.
    Federation,
}

/// The session that a service's proxy understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The proxy carries bytes without reading them.
    #[default]
    Tcp,
    /// The proxy decides on each HTTP/1.1 request.
    Http,
    /// The proxy rewrites broker addresses and checks topic rights.
    Kafka,
}

impl Protocol {
    /// As the site file has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::Kafka => "kafka",
        }
    }
}

/// What this site offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name; a DNS label.
    pub name: String,
    /// The SPIFFE ID of the service. Its path is `/NAME`, unless the file says otherwise.
    pub id: SpiffeId,
    /// The nodes that hold it. If empty, the process of `renkei up` if it is a gateway, or else
    /// every node that is one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// The session its proxy understands.
    pub protocol: Protocol,
    /// Where it really runs; never empty.
    pub backends: Vec<BackendAddress>,
    /// The callers that may connect. Others may not, unless `policy` allows them.
    pub allow: Vec<SpiffeId>,
    /// What each caller may do, if the service speaks HTTP and says so; who is not in it may do
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<BTreeMap<SpiffeId, Vec<MethodRule>>>,
    /// What each caller may do, if the service speaks Kafka and says so; who is not in it may do
    /// nothing with any topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<BTreeMap<SpiffeId, TopicRights>>,
    /// How long a backend may take for its response to begin, if the service speaks HTTP and
    /// says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_timeout: Option<Duration>,
    /// What all its callers may carry together, in each direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// What each of its callers may carry, in each direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_bandwidth: Option<Bandwidth>,
    /// A Rego file with more rules.
    pub policy: Option<PathBuf>,
}

/// What clients of the Workload API may take up. Past a limit they get RESOURCE_EXHAUSTED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadApiLimits {
    /// Connections of all users at once.
    pub connections: u32,
    /// Connections at once by processes of one user.
    pub connections_per_user: u32,
    /// Streams at once on one connection.
    pub streams_per_connection: u32,
}

impl Default for WorkloadApiLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_user: 512,
            streams_per_connection: 64,
        }
    }
}

/// What runs at this site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Workload {
    /// The name under `workloads`.
    pub name: String,
    /// The SPIFFE ID of the workload.
    pub id: SpiffeId,
    /// By what a process distinguishes this identity from its others (SPIFFE_Workload_API 5.2.1).
    pub hint: String,
    /// A process with several identities gets this one first, as its default.
    pub is_default: bool,
    /// What a process must be to have that identity; never empty, and all must match.
    pub selectors: Vec<Selector>,
    /// The nodes that it may run on. If empty, every node and the process of `renkei up`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<String>,
    /// The services that it calls, each with its local listener.
    pub uses: Vec<Use>,
}

/// A service that a workload calls through a local listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Use {
    /// The identity of the service that is called.
    pub target: SpiffeId,
    /// The address that is opened for the workload; a loopback address.
    pub listen: SocketAddr,
}

impl Site {
    /// Where an item is written in the file; the start of the file if it is not there.
    pub fn place(&self, item: &Item) -> Place {
        self.source
            .places
            .get(item)
            .copied()
            .unwrap_or(Place::START)
    }

    /// The line that lets `caller` call a service, if its allow list does.
    pub fn line_of_allow(&self, service: &str, caller: &SpiffeId) -> Option<usize> {
        let item = Item::Allow(service.to_owned(), caller.clone());
        self.source.places.get(&item).map(|place| place.line)
    }

    /// What the file is called in faults.
    pub fn file(&self) -> &str {
        &self.source.name
    }

    /// An empty list of faults over the file, for what only the running system can find.
    pub fn faults(&self) -> Faults {
        Faults::new(self.source.name.clone(), self.source.text.clone())
    }

    /// Takes relative paths to start at `base`, the folder of the site file.
    pub fn resolve_paths(&mut self, base: &Path) {
        let resolve = |path: &mut PathBuf| *path = base.join(&*path);
        if let Some(endpoint) = &mut self.bundle_endpoint {
            resolve(&mut endpoint.certificate);
            resolve(&mut endpoint.key);
        }
        for peer in self.peers.values_mut() {
            match &mut peer.bundle {
                BundleSource::File(path) => resolve(path),
                BundleSource::HttpsWeb { roots, .. } => roots.iter_mut().for_each(resolve),
                BundleSource::HttpsSpiffe { bootstrap, .. } => resolve(bootstrap),
                BundleSource::Identity(_) | BundleSource::Federation => {}
            }
        }
        if let Some(federation) = &mut self.federation {
            resolve(&mut federation.path);
        }
        self.services
            .values_mut()
            .filter_map(|service| service.policy.as_mut())
            .for_each(resolve);
    }

    /// The same site, linked with the members of its federation too: each with the gateway that
    /// it has published. What the file itself says of a peer stays.
    pub fn with_members<'a>(
        &self,
        members: impl IntoIterator<Item = (&'a TrustDomain, &'a Option<HostPort>)>,
    ) -> Self {
        let mut site = self.clone();
        let foreign = members
            .into_iter()
            .filter(|(name, _)| **name != self.trust_domain);
        for (name, gateway) in foreign {
            let peer = || Peer {
                trust_domain: name.clone(),
                bundle: BundleSource::Federation,
                gateway: gateway.clone(),
            };
            site.peers.entry(name.clone()).or_insert_with(peer);
        }
        site
    }

    /// The identity that a text means: the name of a service or workload of this site, or an
    /// identity in one of its forms.
    pub fn identity(&self, text: &str) -> Result<SpiffeId, IdError> {
        let service = self.services.get(text).map(|service| &service.id);
        let named = service.or_else(|| Some(&self.workloads.get(text)?.id));
        match named {
            Some(id) => Ok(id.clone()),
            None => SpiffeId::parse_short(text, &self.trust_domain),
        }
    }

    /// How many lines of a site file are neither empty nor comments.
    pub fn config_lines(text: &str) -> usize {
        let counts = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        text.lines().filter(counts).count()
    }
}

/// The server name (SNI) by which a gateway distinguishes its services: `NAME.TRUST-DOMAIN` for an
/// ID whose path is `/NAME` with one DNS label. For every other path the label is `id-` and the
/// first 40 hexadecimal digits of the SHA-256 of the path, with its leading `/`. The name chooses
/// a service and proves nothing: both ends demand the whole ID. IDs without a path have none, nor
/// have those whose name would be longer than 253 bytes.
pub fn sni(id: &SpiffeId) -> Option<String> {
    let name = id.path().strip_prefix('/')?;
    let label = match is_dns_label(name) {
        true => name.to_owned(),
        false => {
            let digest = Sha256::digest(id.path());
            format!("id-{}", hex::encode(digest.get(..DIGEST_BYTES)?))
        }
    };
    let sni = format!("{label}.{}", id.trust_domain());
    is_dns_name(&sni).then_some(sni)
}
