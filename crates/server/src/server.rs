//! The server role put together: state folder, authority, entries, endpoints and peers.

mod file_entries;
mod issue;
mod nodes;
mod open;
mod records;
mod rotation;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use renkei_api::{
    node::AgentPart,
    status::{
        AuthorityStatus, ReportFuture, RoleStatus, ServerReport, ServerStatus, StatusReporter,
    },
};
use renkei_runtime::{backoff::Backoff, clock, supervise::Supervisor};
use renkei_site::ServerPart;
use renkei_spiffe::{BundleSet, Identities, TrustDomain};
use rustls::crypto::CryptoProvider;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

pub use self::file_entries::EntriesState;
use crate::{
    AuthorityError, EndpointError, ListenError, NodeParts, ServerMetrics, SpiffeEndpoint,
    StoreError,
    api::Api,
    authority::Authority,
    bundles::Bundles,
    endpoint::WebEndpoints,
    entries::Entries,
    federation::{Federator, Members},
    nodes::Nodes,
    peers::Peers,
    store::{DataStore, SqliteStore},
    time_source::Clock,
};

/// After a write to the state folder failed, for example because the disk is full.
const RETRY: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// Why the server cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The state folder or its database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CA's key or certificate cannot be used, or no first CA can be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The https_web endpoint cannot be opened: its port, its certificate or its key.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The local socket or the port for nodes cannot be opened.
    #[error(transparent)]
    Api(#[from] ListenError),
}

/// What the server is made from.
pub struct ServerSettings {
    /// The state folder; made when it does not exist.
    pub state: PathBuf,
    /// What it is to do, as that changes.
    pub part: watch::Receiver<Arc<ServerPart>>,
    /// The process's provider of cryptography.
    pub provider: Arc<CryptoProvider>,
    /// Counters and gauges, which the process registers.
    pub metrics: ServerMetrics,
    /// Where to take the time from.
    pub clock: Clock,
    /// The system's clock behind it, which is judged by what is on record.
    pub system: Option<clock::Clock>,
    /// Keeps the server's tasks running.
    pub tasks: Supervisor,
    /// The part of each node of the site file, by its name.
    pub nodes: NodeParts,
}

/// The authority of a trust domain. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    trust_domain: TrustDomain,
    store: Arc<dyn DataStore>,
    authority: Authority,
    entries: Arc<Entries>,
    nodes: Arc<Nodes>,
    /// Where managers come to, and nodes if the site file says so.
    api: Api,
    entries_state: watch::Sender<EntriesState>,
    /// Wakes the rotation before its time.
    rotation_due: Notify,
    /// Counts the rounds of the rotation.
    rounds: watch::Sender<u64>,
    bundles: Arc<Bundles>,
    document: watch::Sender<Bytes>,
    endpoint: SpiffeEndpoint,
    web: WebEndpoints,
    federator: Federator,
    peers: Peers,
    part: watch::Receiver<Arc<ServerPart>>,
    metrics: ServerMetrics,
    clock: Clock,
    system: Option<clock::Clock>,
    tasks: Supervisor,
}

impl Server {
    /// The own bundle and those of the peers, as they change.
    pub fn bundles(&self) -> watch::Receiver<Arc<BundleSet>> {
        self.0.bundles.subscribe()
    }

    /// The members of the federation that count, as they change. The binary links the site
    /// with them (`Site::with_members`); then their bundles are published.
    pub fn members(&self) -> watch::Receiver<Members> {
        self.0.federator.members()
    }

    /// The bundle endpoint of the profile https_spiffe, for the gateway.
    pub fn endpoint(&self) -> SpiffeEndpoint {
        self.0.endpoint.clone()
    }

    /// The SVIDs that the server keeps for itself, as they change: none where no nodes come to it.
    pub fn own_identities(&self) -> watch::Receiver<Arc<Identities>> {
        self.0.api.identities()
    }

    /// The own bundle as a document.
    pub fn bundle_document(&self) -> String {
        self.0.authority.bundle().to_document()
    }

    /// How far the entries of the site file are in force, as that changes.
    pub fn entries_state(&self) -> watch::Receiver<EntriesState> {
        self.0.entries_state.subscribe()
    }

    /// What the site's agent holds and serves, as it changes.
    pub fn agent_part(&self) -> watch::Receiver<Arc<AgentPart>> {
        self.0.entries.agent_part()
    }

    /// Reads the peers' files that the site file names again, at once: the site file has
    /// been applied, and any of them may be new.
    pub fn read_files_again(&self) {
        self.0.peers.read_files_again();
    }

    /// Rotates the CA, follows the site, fetches the peers' bundles, and serves nodes and the
    /// https_web endpoint until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let inner = &self.0;
        let (part, token) = (|| inner.part.clone(), || stop.clone());
        tokio::join!(
            inner.keep("ca rotation", &stop, || inner.keep_authority(token())),
            inner.keep("entries", &stop, || inner.keep_entries(token())),
            inner.keep("clock record", &stop, || inner.keep_clock(token())),
            inner.keep("records", &stop, || inner.keep_records(token())),
            inner.keep("federation", &stop, || inner.federator.run(part(), token())),
            inner.keep("peers", &stop, || inner.peers.run(part(), token())),
            inner.keep("bundle endpoint", &stop, || inner.web.run(part(), token())),
            inner.api.run(Arc::new(self.clone()), &inner.tasks, token()),
        );
    }

    /// What `renkei status` shows of the server, or why that cannot be read.
    pub async fn status(&self) -> Result<ServerStatus, StoreError> {
        self.0.status().await
    }

    /// Writes what is pending and closes the database; afterwards nothing can be issued.
    pub async fn close(&self) {
        self.0.record_clock().await;
        self.0.store.close().await;
    }
}

impl StatusReporter for Server {
    fn report(&self) -> ReportFuture<'_> {
        Box::pin(async {
            RoleStatus::Server(match self.0.status().await {
                Ok(status) => ServerReport::Status(Box::new(status)),
                Err(error) => ServerReport::Failed {
                    error: error.to_string(),
                },
            })
        })
    }
}

/// The own bundle as a document, from a state folder, whether or not a server runs on it.
pub async fn stored_bundle_document(state: &std::path::Path) -> Result<String, StoreError> {
    let store = SqliteStore::open_read_only(state).await?;
    let bundle = crate::authority::stored_bundle(&store).await?;
    store.close().await;
    Ok(bundle.to_document())
}

impl Inner {
    async fn keep<F: Future<Output = ()>>(
        &self,
        name: &str,
        stop: &CancellationToken,
        start: impl FnMut() -> F,
    ) {
        let tasks = self.tasks.clone();
        tasks
            .run(name.to_owned(), || stop.is_cancelled(), start)
            .await;
    }

    async fn status(&self) -> Result<ServerStatus, StoreError> {
        let bundle = self.authority.bundle();
        let authorities = self
            .authority
            .authorities()
            .into_iter()
            .map(|ca| AuthorityStatus {
                id: ca.id,
                state: ca.state,
                not_before: ca.not_before,
                not_after: ca.not_after,
            });
        let federation = self.federator.status();
        let mut peers = self.peers.status();
        let mirrors = federation.iter().flat_map(|federation| &federation.mirrors);
        let read = mirrors.filter_map(|mirror| mirror.last_success).max();
        for peer in peers.iter_mut().filter(|p| p.profile == "federation") {
            peer.last_success = read;
        }
        Ok(ServerStatus {
            trust_domain: self.trust_domain.clone(),
            bundle_sequence: bundle.sequence.unwrap_or_default(),
            bundle_refresh_seconds: bundle.refresh_hint.unwrap_or_default().as_secs(),
            authorities: authorities.collect(),
            entries: self.entries.status(),
            valid_svids: self.store.valid_svids((self.clock)()).await?,
            peers,
            federation,
            identity: self.federator.identity(),
            bundle_endpoint: self.web.status(),
            nodes: self.api.nodes(),
        })
    }
}
