//! Where a site's identities come from: an authority of its own, or another Workload API.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_agent::{
    Agent, AgentMetrics,
    client::{self, AgentIdentities},
    keeper::KeeperInputs,
    workload_api::GrpcLimits,
};
use renkei_api::{issue::CertificateIssuer, node::AgentPart, status::StatusReporter};
use renkei_runtime::{clock, files, supervise::Supervisor, telemetry::Metrics};
use renkei_server::{
    EntriesState, NodeParts, Server, ServerMetrics, ServerSettings, federation::Members,
};
use renkei_site::{ServerPart, WorkloadApiLimits};
use renkei_spiffe::{BundleSet, Identities, SpiffeId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::provider;

/// The identity plane of a running site.
pub(crate) enum Plane {
    /// A CA of its own, and an agent that serves what it issues.
    Own { server: Server, agent: Agent },
    /// A CA of its own alone: agents and proxies run on nodes.
    Server { server: Server },
    /// Another agent's Workload API, such as SPIRE's.
    Foreign { source: AgentIdentities },
}

/// What a site's own server is made from.
pub(crate) struct ServerInputs<'a> {
    pub(crate) state: PathBuf,
    pub(crate) part: watch::Receiver<Arc<ServerPart>>,
    /// The part of each node.
    pub(crate) nodes: NodeParts,
    pub(crate) metrics: &'a Metrics,
    pub(crate) tasks: Supervisor,
    pub(crate) stop: CancellationToken,
}

/// Opens the state folder's CA, or makes it.
async fn open_server(inputs: &ServerInputs<'_>) -> miette::Result<Server> {
    Server::open(ServerSettings {
        state: inputs.state.clone(),
        part: inputs.part.clone(),
        provider: provider(),
        metrics: inputs.metrics.register(ServerMetrics::register),
        clock: Arc::new(clock::now),
        system: Some(clock::process().clone()),
        tasks: inputs.tasks.clone(),
        nodes: inputs.nodes.clone(),
    })
    .await
    .into_diagnostic()
    .wrap_err("the site's authority cannot start")
}

fn run_server(server: &Server, stop: CancellationToken) {
    let server = server.clone();
    tokio::spawn(async move { server.run(stop).await });
}

impl Plane {
    /// Opens the state folder's CA (or makes it), and serves the Workload API.
    pub(crate) async fn own(
        inputs: ServerInputs<'_>,
        workload_socket: PathBuf,
        limits: WorkloadApiLimits,
    ) -> miette::Result<Self> {
        let server = open_server(&inputs).await?;
        let agent = start_agent(AgentInputs {
            workload_socket,
            limits,
            part: server.agent_part(),
            bundles: server.bundles(),
            issuer: Arc::new(server.clone()),
            metrics: inputs.metrics,
            tasks: inputs.tasks,
            stop: inputs.stop.clone(),
        })?;
        run_server(&server, inputs.stop);
        Ok(Self::Own { server, agent })
    }

    /// Opens the state folder's CA (or makes it), for nodes alone.
    pub(crate) async fn server(inputs: ServerInputs<'_>) -> miette::Result<Self> {
        let server = open_server(&inputs).await?;
        run_server(&server, inputs.stop);
        Ok(Self::Server { server })
    }

    /// Takes identities and bundles from the Workload API of another agent.
    pub(crate) fn foreign(
        socket: &str,
        tasks: Supervisor,
        stop: CancellationToken,
    ) -> miette::Result<Self> {
        let source = client::watch(socket, provider(), (tasks, stop))
            .into_diagnostic()
            .wrap_err_with(|| format!("--workload-api {socket}"))?;
        Ok(Self::Foreign { source })
    }

    /// SVIDs and bundles as they change; of a server alone, its own SVIDs.
    pub(crate) fn identities(&self) -> watch::Receiver<Arc<Identities>> {
        match self {
            Self::Own { agent, .. } => agent.identities(),
            Self::Server { server } => server.own_identities(),
            Self::Foreign { source } => source.identities.clone(),
        }
    }

    /// The bundles that are known now.
    pub(crate) fn bundles(&self) -> Arc<BundleSet> {
        match self {
            Self::Own { agent, .. } => agent.identities().borrow().bundles.clone(),
            Self::Server { server } => server.bundles().borrow().clone(),
            Self::Foreign { source } => source.identities.borrow().bundles.clone(),
        }
    }

    /// The site's own server.
    pub(crate) fn own_server(&self) -> Option<&Server> {
        match self {
            Self::Own { server, .. } | Self::Server { server } => Some(server),
            Self::Foreign { .. } => None,
        }
    }

    /// The members of the federation that are valid; none where the authority is another's.
    pub(crate) fn members(&self) -> Option<watch::Receiver<Members>> {
        self.own_server().map(Server::members)
    }

    /// The members of the federation that count now.
    pub(crate) fn present_members(&self) -> Members {
        let members = self.members();
        let members = members.map(|members| members.borrow().clone());
        members.unwrap_or_default()
    }

    /// The nodes that are banned; another authority has its own.
    pub(crate) fn banned_nodes(&self) -> BTreeSet<SpiffeId> {
        let server = self.own_server();
        server.map(Server::banned_nodes).unwrap_or_default()
    }

    /// How far the entries of the site file are in force; another authority has its own.
    pub(crate) fn entries_state(&self) -> Option<watch::Receiver<EntriesState>> {
        self.own_server().map(Server::entries_state)
    }

    /// The parts of the process that report the status of its identities.
    pub(crate) fn reporters(&self) -> Vec<&dyn StatusReporter> {
        match self {
            Self::Own { server, agent } => vec![server, agent],
            Self::Server { server } => vec![server],
            Self::Foreign { source } => vec![source],
        }
    }

    /// Takes leave of Workload API clients and closes the database.
    pub(crate) async fn close(self) {
        match self {
            Self::Own { server, agent } => {
                agent.stopped().await;
                server.close().await;
            }
            Self::Server { server } => server.close().await,
            Self::Foreign { .. } => {}
        }
    }
}

/// What an agent is made from, wherever its entries and certificates come from.
pub(crate) struct AgentInputs<'a> {
    pub(crate) workload_socket: PathBuf,
    pub(crate) limits: WorkloadApiLimits,
    pub(crate) part: watch::Receiver<Arc<AgentPart>>,
    pub(crate) bundles: watch::Receiver<Arc<BundleSet>>,
    pub(crate) issuer: Arc<dyn CertificateIssuer>,
    pub(crate) metrics: &'a Metrics,
    pub(crate) tasks: Supervisor,
    pub(crate) stop: CancellationToken,
}

/// Keeps identities, and serves the Workload API.
pub(crate) fn start_agent(inputs: AgentInputs<'_>) -> miette::Result<Agent> {
    open_socket_folder(&inputs.workload_socket)?;
    let metrics = AgentMetrics::default();
    inputs
        .metrics
        .register(|registry| metrics.register(registry));
    let keeper = KeeperInputs {
        part: inputs.part,
        bundles: inputs.bundles,
        issuer: inputs.issuer,
        provider: provider(),
        metrics,
        tasks: inputs.tasks,
    };
    let limits = grpc_limits(inputs.limits);
    Agent::start(inputs.workload_socket, limits, keeper, inputs.stop)
        .into_diagnostic()
        .wrap_err("the Workload API cannot be served")
}

fn grpc_limits(limits: WorkloadApiLimits) -> GrpcLimits {
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    GrpcLimits {
        connections: count(limits.connections),
        connections_per_user: count(limits.connections_per_user),
        streams_per_connection: limits.streams_per_connection,
        ..GrpcLimits::default()
    }
}

/// Workloads of every user must be able to come to the socket; attestation decides the rest.
fn open_socket_folder(socket: &std::path::Path) -> miette::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = socket
        .parent()
        .ok_or_else(|| miette!("the Workload API needs a path"))?;
    let owned = folder.to_owned();
    let made = files::run(folder, move || {
        if owned.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&owned)?;
        fs::set_permissions(&owned, PermissionsExt::from_mode(0o755))
    });
    made.into_diagnostic()
        .wrap_err_with(|| format!("cannot make the folder {}", folder.display()))
}
