//! SPIRE's server API and Renkei's stream for nodes: on the port that nodes come to, over TLS, and
//! on a local socket for those who manage the server.
//!
//! On the port the server proves `spiffe://TRUST-DOMAIN/spire/server`. A client may present an SVID
//! of this trust domain or nothing. What each caller may call is in [`methods`], and decided in
//! [`callers`] alone. Messages, connections and requests of one address are bounded.

mod agents;
mod bundle_reader;
mod bundles;
mod callers;
mod certificates;
mod convert;
mod debug;
mod entries;
mod entry_changes;
mod entry_form;
mod followers;
mod health;
mod listener;
mod local;
mod managed_agents;
mod methods;
mod node;
mod own_svids;
mod pages;
mod places;
mod refusal;
mod registrations;
mod routes;
mod selectors;
mod svids;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use renkei_api::{node::CaPin, status::NodeStatus};
use renkei_grpc::OpenServer;
use renkei_runtime::{supervise::Supervisor, unix_socket::SocketError};
use renkei_site::{ApiServer, ProxyPart};
use renkei_spiffe::{Identities, TrustDomain};
use rustls::crypto::CryptoProvider;
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use self::{followers::Followers, listener::Connections, own_svids::OwnSvids, places::Places};
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

/// The parts of the nodes, by name, as they change.
pub type NodeParts = watch::Receiver<Arc<BTreeMap<String, Arc<ProxyPart>>>>;

/// Why the API cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port for nodes.
    #[error("the server cannot listen for nodes on {address}: {source}")]
    Port {
        /// `server.listen` of the site file.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The local socket.
    #[error("{0}; {hint}", hint = .0.hint())]
    Local(#[from] SocketError),
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

/// The API, open.
pub(crate) struct Api {
    port: Option<Port>,
    /// Until it is served.
    local: Mutex<Option<OpenServer>>,
    shared: Arc<Shared>,
}

/// Where nodes come to.
struct Port {
    settings: ApiServer,
    listener: TcpListener,
}

/// What all services share.
struct Shared {
    parts: Parts,
    attestors: Vec<Box<dyn NodeAttestor>>,
    own: OwnSvids,
    followers: Followers,
    /// Whether nodes can come.
    listens: bool,
    places: Places,
    certificates: certificates::Limiter,
}

impl Api {
    /// Opens the local socket, and the port if there is to be one. Nothing is answered yet.
    pub(crate) async fn open(
        settings: Option<&ApiServer>,
        state: &Path,
        parts: Parts,
    ) -> Result<Self, ListenError> {
        let port = match settings {
            None => None,
            Some(settings) => Some(Port::open(settings).await?),
        };
        let shared = Shared {
            attestors: vec![Box::new(parts.nodes.join_token())],
            own: OwnSvids::new(&parts.trust_domain),
            followers: Followers::default(),
            listens: port.is_some(),
            places: Places::new(),
            certificates: certificates::limiter(),
            parts,
        };
        Ok(Self {
            port,
            local: Mutex::new(Some(local::open(state)?)),
            shared: Arc::new(shared),
        })
    }

    /// Where nodes come to, if they can come.
    pub(crate) fn port(&self) -> Option<&ApiServer> {
        self.port.as_ref().map(|port| &port.settings)
    }

    /// The pin of the CA that nodes find there.
    pub(crate) fn pin(&self) -> Option<CaPin> {
        self.shared.own.pin()
    }

    /// The server's own SVIDs, as they change; none where no nodes come to it.
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
        let routes = routes::all(&self.shared, &issuer, &stop);
        let local = self
            .take_local()
            .map(|open| open.keep(routes.clone(), (tasks.clone(), stop.clone())));
        let port = async {
            if let Some(port) = &self.port {
                self.run_port(port, (routes, issuer), tasks, &stop).await;
            }
        };
        let local = async {
            if let Some(local) = local {
                // An error means that it was ended from outside.
                let _ = local.await;
            }
        };
        tokio::join!(port, local);
    }

    fn take_local(&self) -> Option<OpenServer> {
        let mut local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        local.take()
    }

    async fn run_port(
        &self,
        port: &Port,
        (routes, issuer): (Routes, Arc<dyn Issuer>),
        tasks: &Supervisor,
        stop: &CancellationToken,
    ) {
        let own = tasks.clone().run(
            "SVIDs of the server".to_owned(),
            || stop.is_cancelled(),
            || self.shared.own.keep(&*issuer, &self.shared.parts, stop),
        );
        let serving = tasks.clone().run(
            "server API".to_owned(),
            || stop.is_cancelled(),
            || port.serve(&self.shared, routes.clone(), stop),
        );
        tokio::join!(own, serving);
    }
}

impl Port {
    async fn open(settings: &ApiServer) -> Result<Self, ListenError> {
        let address = settings.listen;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ListenError::Port { address, source })?;
        Ok(Self {
            settings: settings.clone(),
            listener,
        })
    }

    async fn serve(&self, shared: &Arc<Shared>, routes: Routes, stop: &CancellationToken) {
        let router = Server::builder()
            .max_concurrent_streams(STREAMS)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_routes(routes);
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
