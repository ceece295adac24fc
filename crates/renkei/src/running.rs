//! A running site: its parts, what it answers on the control socket, and how a changed site file
//! is applied.

mod nodes;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::StatusCode;
use renkei_api::{
    control::{Applied as Answer, BundleDocument, Request},
    status::{SiteStatus, StatusReporter},
};
use renkei_proxy::{Desired, Policies, Proxy};
use renkei_runtime::{control::ControlError, readiness::Readiness, telemetry::ConfigMetrics};
use renkei_server::federation::Members;
use renkei_site::{Changes, NodeSpec, PolicySource, ProxyPart, ServerPart, Site, diff};
use renkei_spiffe::{SpiffeId, TrustDomain};
use serde_json::Value;
use tokio::sync::{Mutex, watch};

use crate::{
    identity::Plane,
    load::{LoadError, Loaded, load},
    process::{self, json},
    warnings,
};

/// How long an apply waits for its entries: longer than one statement of the database may take.
const ENTRIES_TIME: Duration = Duration::from_secs(15);

/// Everything that commands can ask of or tell a running site.
pub(crate) struct Running {
    /// As it was given; read again by every apply.
    pub(crate) file: PathBuf,
    pub(crate) state: PathBuf,
    /// What the file says now, with the members of a federation.
    pub(crate) site: ArcSwap<Site>,
    /// The version of the parts that the roles were given last.
    pub(crate) version: AtomicU64,
    pub(crate) server_part: watch::Sender<Arc<ServerPart>>,
    /// The part of each node, which the server sends it.
    pub(crate) nodes: watch::Sender<NodeMap>,
    pub(crate) plane: Plane,
    /// None where the server runs alone.
    pub(crate) proxy: Option<Proxy>,
    pub(crate) readiness: Readiness,
    pub(crate) config: ConfigMetrics,
    /// What the file said when it was applied last, without the members of a federation. One
    /// change at a time.
    pub(crate) applied: Mutex<Applied>,
}

/// A site file with its policies, before the members of a federation are linked.
#[derive(Clone)]
pub(crate) struct Applied {
    pub(crate) site: Arc<Site>,
    pub(crate) sources: BTreeMap<String, PolicySource>,
    pub(crate) policies: Policies,
    /// The node whose part the proxy follows; none for the process of the server.
    pub(crate) node: Option<NodeSpec>,
}

/// The site file does not have the node that this process is.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("the site file has no node `{0}`")]
#[diagnostic(help("check the name under `nodes`"))]
pub(crate) struct NoNode(pub(crate) String);

/// What the roles of a site are to do.
pub(crate) struct Projected {
    pub(crate) site: Arc<Site>,
    pub(crate) server: Arc<ServerPart>,
    pub(crate) proxy: Desired,
    pub(crate) nodes: NodeMap,
}

/// The part of each node, by its name.
pub(crate) type NodeMap = Arc<BTreeMap<String, Arc<ProxyPart>>>;

impl Applied {
    /// What was read, for the process of the server or that of a node.
    pub(crate) fn new(loaded: Loaded, node: Option<&str>) -> Result<Self, NoNode> {
        let find = |name: &str| {
            let spec = loaded.site.nodes.get(name).cloned();
            spec.ok_or_else(|| NoNode(name.to_owned()))
        };
        Ok(Self {
            node: node.map(find).transpose()?,
            site: loaded.site,
            sources: loaded.sources,
            policies: loaded.policies,
        })
    }

    /// The parts of the file, linked with the members that are valid now, and with no node that
    /// is banned.
    pub(crate) fn project(
        &self,
        members: &Members,
        banned: &BTreeSet<SpiffeId>,
        version: u64,
    ) -> Projected {
        let linked = members.iter().map(|(name, member)| (name, &member.gateway));
        let site = match members.is_empty() {
            true => self.site.clone(),
            false => Arc::new(self.site.with_members(linked)),
        };
        let allowed = |mut part: ProxyPart| {
            part.without_nodes(banned);
            Arc::new(part)
        };
        let part = match &self.node {
            Some(node) => site.node_part(node, version, self.sources.clone()),
            None => site.proxy_part(version, self.sources.clone()),
        };
        let proxy = Desired {
            site: allowed(part),
            policies: self.policies.clone(),
        };
        let node = |node: &NodeSpec| {
            let part = site.node_part(node, version, self.sources.clone());
            (node.name.clone(), allowed(part))
        };
        Projected {
            nodes: Arc::new(site.nodes.values().map(node).collect()),
            server: Arc::new(site.server_part(version)),
            proxy,
            site,
        }
    }
}

/// Why a changed site file was not applied. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error("{}", .0)]
    Load(LoadError),
    #[error("{0}: this change needs a restart")]
    NeedsRestart(&'static str),
    #[error("{NO_AUTHORITY}")]
    NoAuthority,
    #[error(transparent)]
    NoNode(NoNode),
    #[error("{0}")]
    Listen(String),
}

impl ApplyError {
    /// For the log, where the text of the file is not shown: each fault with its place and hint.
    fn in_full(&self) -> String {
        match self {
            Self::Load(LoadError::Faulty(faults)) => faults.to_lines(),
            other => other.to_string(),
        }
    }
}

/// With `--workload-api` the bundles are another agent's.
pub(crate) const NO_AUTHORITY: &str = "`federation` needs the site's own authority, and with --workload-api it has none; the bundles \
     of peers come from that agent";

impl Running {
    /// Reads the site file again and applies what has changed. Flows that the change does not
    /// touch keep their connections; a faulty file changes nothing.
    pub(crate) async fn apply(&self) -> Result<Changes, ApplyError> {
        let mut applied = self.applied.lock().await;
        let node = applied.node.as_ref().map(|node| node.name.as_str());
        let next = Applied::new(self.load().await?, node).map_err(ApplyError::NoNode)?;
        let changes = diff(&applied.site, &next.site);
        if next.site.federation.is_some() && self.plane.members().is_none() {
            return Err(ApplyError::NoAuthority);
        }
        if let Some(reason) = changes.needs_restart() {
            return Err(ApplyError::NeedsRestart(reason));
        }
        self.run_by(&next).await?;
        if let Some(server) = self.plane.own_server() {
            server.read_files_again();
        }
        *applied = next;
        warnings::log(&warnings::of(&applied.site, &self.file, &self.state));
        Ok(changes)
    }

    /// Policies may take a while to compile, and files to answer.
    async fn load(&self) -> Result<Loaded, ApplyError> {
        let file = self.file.clone();
        let loaded = tokio::task::spawn_blocking(move || load(&file)).await;
        match loaded {
            Ok(loaded) => loaded.map_err(ApplyError::Load),
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    async fn run_by(&self, applied: &Applied) -> Result<(), ApplyError> {
        let version = self.version.fetch_add(1, Ordering::Relaxed) + 1;
        let (members, banned) = (self.plane.present_members(), self.plane.banned_nodes());
        let next = applied.project(&members, &banned, version);
        if let Some(proxy) = &self.proxy {
            let opened = proxy.apply(next.proxy).await;
            opened.map_err(|error| ApplyError::Listen(with_places(&next.site, &error)))?;
        }
        self.nodes.send_replace(next.nodes);
        self.server_part.send_replace(next.server);
        self.site.store(next.site);
        Ok(())
    }

    /// Links the site with the members of its federation, as they come and go.
    pub(crate) async fn follow_members(&self, mut members: watch::Receiver<Members>) {
        // What came between the start and now is not missed.
        members.mark_changed();
        while members.changed().await.is_ok() {
            let applied = self.applied.lock().await;
            if let Err(error) = self.run_by(&applied).await {
                tracing::error!(%error, "the members of the federation could not be linked");
            }
        }
    }

    /// Ends the links of nodes that are banned.
    pub(crate) async fn follow_nodes(&self, mut changes: watch::Receiver<u64>) {
        changes.mark_changed();
        let mut known = None;
        while changes.changed().await.is_ok() {
            let banned = self.plane.banned_nodes();
            if known.as_ref() == Some(&banned) {
                continue;
            }
            let applied = self.applied.lock().await;
            if let Err(error) = self.run_by(&applied).await {
                tracing::error!(%error, "the nodes that are banned could not be kept out");
                continue;
            }
            known = Some(banned);
        }
    }

    /// Answers one request of the control socket.
    pub(crate) async fn answer(&self, request: Request) -> Result<Value, ControlError> {
        match request {
            Request::Status => json(&self.status().await),
            Request::Apply => match self.apply().await {
                Ok(changes) => {
                    self.config.applied();
                    tracing::info!(changes = %changes.to_string().trim_end().replace('\n', "; "), "applied the site file");
                    let mut answer = Answer::from(changes);
                    answer.warnings.extend(self.late_entries().await);
                    json(&answer)
                }
                Err(error) => {
                    self.config.refused();
                    tracing::warn!(error = error.in_full(), "the site file was not applied");
                    Err(refused(&error))
                }
            },
            Request::Bundle(of) => json(&self.bundle(of)?),
            Request::NodeToken { node, seconds } => {
                json(&nodes::node_token(&self.plane, &node, seconds).await?)
            }
            Request::AgentToken { seconds } => {
                json(&nodes::agent_token(&self.plane, seconds).await?)
            }
            Request::BanNode(name) => json(&nodes::ban(&self.plane, &name).await?),
            Request::RemoveNode(name) => json(&nodes::remove(&self.plane, &name).await?),
        }
    }

    /// Why the entries of the file are not all in force.
    async fn late_entries(&self) -> Option<String> {
        let version = self.version.load(Ordering::Relaxed);
        let mut state = self.plane.entries_state()?;
        let reached = state.wait_for(|state| state.version >= version);
        let reason = match tokio::time::timeout(ENTRIES_TIME, reached).await {
            Ok(Ok(state)) => state.failed.clone()?,
            _ => "the database gives no answer".to_owned(),
        };
        Some(format!(
            "the entries of the site file could not be stored: {reason}; those that were removed \
             have ended, and those that were added are not in force yet"
        ))
    }

    fn bundle(&self, of: Option<TrustDomain>) -> Result<BundleDocument, ControlError> {
        let trust_domain = of.unwrap_or_else(|| self.site.load().trust_domain.clone());
        process::bundle(&self.plane.bundles(), &trust_domain)
    }

    async fn status(&self) -> SiteStatus {
        let site = self.site.load_full();
        let mut reporters = self.plane.reporters();
        reporters.extend(self.proxy.iter().map(|proxy| proxy as &dyn StatusReporter));
        let named = (site.name.as_str(), &site.trust_domain);
        process::status(named, &self.readiness, &reporters).await
    }
}

/// Each address that cannot be listened on, after its place in the site file.
pub(crate) fn with_places(site: &Site, error: &renkei_proxy::ApplyError) -> String {
    let line = |fault: &renkei_proxy::ListenFault| {
        let place = site.place(&fault.item);
        format!("{}:{}:{}: {fault}", site.file(), place.line, place.column)
    };
    error.faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn refused(error: &ApplyError) -> ControlError {
    let (status, details) = match error {
        ApplyError::Load(LoadError::Faulty(faults)) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            serde_json::json!({"faults": faults}),
        ),
        _ => (StatusCode::CONFLICT, Value::Null),
    };
    ControlError::new(status, error.to_string())
        .with_details(details)
        .with_hint("nothing was changed; the site keeps its configuration")
}

/// The path as the process may use it after the current folder has changed.
pub(crate) fn absolute(file: &Path) -> PathBuf {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned())
}
