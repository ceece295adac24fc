//! The port that nodes come to: SPIRE's server API and Renkei's stream for nodes, over TLS.
//!
//! The server proves `spiffe://TRUST-DOMAIN/spire/server`. A client may present an SVID of this
//! trust domain or nothing; what each may call is decided in [`callers`] alone. Messages,
//! connections and requests of one address are bounded.

mod agents;
mod bundle_reader;
mod bundles;
mod callers;
mod convert;
mod entries;
mod followers;
mod listener;
mod node;
mod own_svids;
mod refusal;
mod svids;

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use renkei_api::{
    node::CaPin,
    node_stream::node_server::NodeServer,
    spire::api::server::{
        agent::v1::agent_server::AgentServer, bundle::v1::bundle_server::BundleServer,
        entry::v1::entry_server::EntryServer, svid::v1::svid_server::SvidServer,
    },
    status::NodeStatus,
};
use renkei_runtime::supervise::Supervisor;
use renkei_site::{ApiServer, ProxyPart};
use renkei_spiffe::{Identities, TrustDomain};
use rustls::crypto::CryptoProvider;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use self::{callers::Admission, followers::Followers, listener::Connections, own_svids::OwnSvids};
use crate::{
    authority::Issuer,
    bundles::Bundles,
    endpoint::SpiffeEndpoint,
    entries::Entries,
    nodes::{NodeAttestor, Nodes},
    time_source::Clock,
};

/// How often a silent client is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Requests at once on one connection.
const STREAMS: u32 = 256;
/// How long open requests may take when the server stops.
const GOODBYE: Duration = Duration::from_secs(1);
/// Readers of the bundle endpoint at once, of all gateways.
const READERS: usize = 256;
/// What a node sends to join, with the largest proofs that attestors know.
const MAX_ATTESTATION: usize = 64 * 1024;
/// Some hundred certificate requests in one message.
const MAX_MESSAGE: usize = 1024 * 1024;

/// The parts of the nodes, by name, as they change.
pub type NodeParts = watch::Receiver<Arc<BTreeMap<String, Arc<ProxyPart>>>>;

/// Why the API's port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the server cannot listen for nodes on {address}: {source}")]
pub struct ListenError {
    /// `server.listen` of the site file.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// What the services work with.
pub(crate) struct Parts {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) entries: Arc<Entries>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) bundles: Arc<Bundles>,
    pub(crate) endpoint: SpiffeEndpoint,
    pub(crate) node_parts: NodeParts,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) clock: Clock,
}

/// The API's port, open.
pub(crate) struct Api {
    settings: ApiServer,
    listener: TcpListener,
    shared: Arc<Shared>,
}

/// What all services share.
struct Shared {
    parts: Parts,
    attestors: Vec<Box<dyn NodeAttestor>>,
    own: OwnSvids,
    followers: Followers,
    readers: Arc<Semaphore>,
}

impl Api {
    /// Opens the port. Nothing is answered yet.
    pub(crate) async fn open(settings: &ApiServer, parts: Parts) -> Result<Self, ListenError> {
        let address = settings.listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ListenError { address, source })?;
        let shared = Shared {
            attestors: vec![Box::new(parts.nodes.join_token())],
            own: OwnSvids::new(&parts.trust_domain),
            followers: Followers::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            parts,
        };
        Ok(Self {
            settings: settings.clone(),
            listener,
            shared: Arc::new(shared),
        })
    }

    /// Where nodes come to, and the pin of the CA that they find there.
    pub(crate) fn to_pin(&self) -> Option<(ApiServer, CaPin)> {
        Some((self.settings.clone(), self.shared.own.pin()?))
    }

    /// The server's own SVIDs, as they change.
    pub(crate) fn identities(&self) -> watch::Receiver<Arc<Identities>> {
        self.shared.own.identities()
    }

    /// Whether the site file has a node of this name.
    pub(crate) fn knows(&self, node: &str) -> bool {
        self.shared.parts.node_parts.borrow().contains_key(node)
    }

    /// The nodes that have joined, and those that are connected.
    pub(crate) fn nodes(&self) -> Vec<NodeStatus> {
        let known = self.shared.parts.node_parts.borrow().clone();
        self.shared
            .followers
            .status(&known, &self.shared.parts.nodes.all())
    }

    /// Answers until `stop`.
    pub(crate) async fn run(
        &self,
        issuer: Arc<dyn Issuer>,
        tasks: &Supervisor,
        stop: CancellationToken,
    ) {
        let own = tasks.clone().run(
            "SVIDs of the server".to_owned(),
            || stop.is_cancelled(),
            || self.shared.own.keep(&*issuer, &self.shared.parts, &stop),
        );
        let serving = tasks.clone().run(
            "server API".to_owned(),
            || stop.is_cancelled(),
            || self.serve(issuer.clone(), &stop),
        );
        tokio::join!(own, serving);
    }

    async fn serve(&self, issuer: Arc<dyn Issuer>, stop: &CancellationToken) {
        let shared = &self.shared;
        let admission = Admission::new(shared.clone());
        let agents = agents::Service::new(shared.clone(), issuer.clone());
        let svids = svids::Service::new(shared.clone(), issuer);
        let node = node::Service::new(shared.clone(), stop.clone());
        let router = Server::builder()
            .layer(admission)
            .max_concurrent_streams(STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_service(AgentServer::new(agents).max_decoding_message_size(MAX_ATTESTATION))
            .add_service(
                EntryServer::new(entries::Service::new(shared.clone()))
                    .max_decoding_message_size(MAX_MESSAGE),
            )
            .add_service(SvidServer::new(svids).max_decoding_message_size(MAX_MESSAGE))
            .add_service(
                BundleServer::new(bundles::Service::new(shared.clone()))
                    .max_decoding_message_size(MAX_ATTESTATION),
            )
            .add_service(
                NodeServer::new(node).max_decoding_message_size(bundle_reader::MAX_MESSAGE),
            );
        let cut = CancellationToken::new();
        // Also when this task is ended from outside.
        let _cut = cut.clone().drop_guard();
        let connections = Connections::new(shared.clone(), cut);
        let incoming = connections.accept(&self.listener);
        let serving = router.serve_with_incoming_shutdown(incoming, stop.cancelled());
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(GOODBYE).await;
        };
        tokio::select! {
            result = serving => if let Err(error) = result {
                tracing::error!(%error, "the server API ended");
            },
            () = overdue => tracing::debug!("clients of the server API did not end in time"),
        }
    }
}
