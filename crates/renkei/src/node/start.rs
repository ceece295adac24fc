//! The roles of a node, put together once it has joined.

use std::{path::Path, sync::Arc};

use http::StatusCode;
use miette::miette;
use renkei_agent::{
    Agent,
    server_client::{BundleReaders, LinkInputs, ServerKind, ServerLink},
};
use renkei_api::{
    control::Request,
    status::{SiteStatus, StatusReporter},
};
use renkei_proxy::{DefaultHandler, Proxy, Untouched};
use renkei_runtime::{control::ControlError, readiness::Readiness, telemetry::ConfigMetrics};
use renkei_spiffe::TrustDomain;
use serde_json::Value;

use super::{configuration, introduction::Introduction};
use crate::{
    identity::{AgentInputs, start_agent},
    node_args::Serve,
    place,
    process::{self, Shared, json},
    provider,
};

/// What of a node runs in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    AgentAndProxy,
    Agent,
}

/// A node while it runs.
pub(super) struct RunningNode {
    name: String,
    trust_domain: TrustDomain,
    link: Arc<ServerLink>,
    agent: Agent,
    /// None where the agent runs alone.
    proxy: Option<Arc<Proxy>>,
    readiness: Readiness,
}

/// Joins, and starts to follow the server.
pub(super) async fn start(
    introduction: &Introduction,
    (serve, parts): (&Serve, Parts),
    folder: &Path,
    shared: &Shared,
) -> miette::Result<RunningNode> {
    let server = introduction.server();
    let joined = introduction
        .join()
        .await
        .map_err(|error| miette!(help = error.hint(), "{error}"))?;
    let (name, id) = (joined.name.clone(), joined.svid.id().clone());
    let kind = joined.kind;
    tracing::info!(%id, %server, "this machine is a node of the site");
    let inputs = LinkInputs {
        server: server.clone(),
        joined,
        provider: provider(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        workloads_only: parts == Parts::Agent,
        tasks: shared.tasks.clone(),
    };
    let link = Arc::new(ServerLink::start(inputs, shared.stop.clone()));
    let socket = serve.workload_socket.clone();
    let agent = start_agent(AgentInputs {
        workload_socket: socket.unwrap_or_else(|| place::workload_socket(folder)),
        limits: Default::default(),
        part: link.part(),
        bundles: link.bundles(),
        issuer: link.issuer(),
        metrics: &shared.metrics,
        tasks: shared.tasks.clone(),
        stop: shared.stop.clone(),
    })?;
    let proxy = match parts {
        Parts::AgentAndProxy => {
            let readers = bundle_endpoint(link.bundle_readers());
            let setup = process::proxy_setup(shared, agent.identities(), readers, None);
            Some(Arc::new(Proxy::new(setup)))
        }
        Parts::Agent => None,
    };
    let config = register(shared, &agent, proxy.as_deref());
    match kind {
        ServerKind::Renkei => follow(&link, proxy.as_ref(), config, shared),
        ServerKind::Spire => await_entries(&link, shared),
    }
    Ok(RunningNode {
        name,
        trust_domain: id.trust_domain().clone(),
        link,
        agent,
        proxy,
        readiness: shared.readiness.clone(),
    })
}

/// The metrics of the roles.
fn register(shared: &Shared, agent: &Agent, proxy: Option<&Proxy>) -> ConfigMetrics {
    let ends = Box::new(renkei_agent::SvidEnds(agent.identities()));
    shared.metrics.register(|registry| {
        registry.register_collector(ends);
        if let Some(proxy) = proxy {
            proxy.register(registry);
        }
        ConfigMetrics::register(registry)
    })
}

fn follow(
    link: &Arc<ServerLink>,
    proxy: Option<&Arc<Proxy>>,
    config: ConfigMetrics,
    shared: &Shared,
) {
    let ready = shared.readiness.condition("configuration");
    let (link, proxy, stop) = (link.clone(), proxy.cloned(), shared.stop.clone());
    let over = stop.clone();
    let follow = move || {
        let (link, proxy, stop) = (link.clone(), proxy.clone(), stop.clone());
        let (ready, config) = (ready.clone(), config.clone());
        async move {
            let following = configuration::follow(&link, proxy.as_deref(), &ready, &config);
            stop.run_until_cancelled(following).await;
        }
    };
    let tasks = &shared.tasks;
    tasks.keep("configuration", move || over.is_cancelled(), follow);
}

/// A SPIRE server configures no proxy: the node is ready with the server's first answer.
fn await_entries(link: &ServerLink, shared: &Shared) {
    let ready = shared.readiness.condition("configuration");
    ready.set_not_ready("the server has not sent the entries yet");
    let (status, stop) = (link.status_changes(), shared.stop.clone());
    let over = stop.clone();
    let wait = move || {
        let (mut status, stop, ready) = (status.clone(), stop.clone(), ready.clone());
        async move {
            let waiting = status.wait_for(|status| status.version.is_some());
            if let Some(Ok(_)) = stop.run_until_cancelled(waiting).await {
                ready.set_ready();
            }
            stop.cancelled().await;
        }
    };
    let tasks = &shared.tasks;
    tasks.keep("configuration", move || over.is_cancelled(), wait);
}

/// The bundle endpoint is the server's; a node that is a gateway takes its readers there.
fn bundle_endpoint(readers: BundleReaders) -> DefaultHandler {
    Arc::new(move |connection| {
        let Untouched {
            stream,
            received,
            source,
        } = connection;
        let readers = readers.clone();
        Box::pin(async move {
            if let Err(error) = readers.serve(source, received, stream).await {
                tracing::debug!(%source, error = error.message(), "a reader of the bundle endpoint was not served");
            }
        })
    })
}

impl RunningNode {
    pub(super) async fn answer(&self, request: Request) -> Result<Value, ControlError> {
        match request {
            Request::Status => json(&self.status().await),
            Request::Bundle(of) => {
                let trust_domain = of.unwrap_or_else(|| self.trust_domain.clone());
                let bundles = self.link.bundles().borrow().clone();
                json(&process::bundle(&bundles, &trust_domain)?)
            }
            Request::Apply => Err(ControlError::new(
                StatusCode::CONFLICT,
                "a node has no site file: it gets its configuration from its server",
            )
            .with_hint("run `renkei apply site.yaml` at the server")),
            Request::NodeToken { .. }
            | Request::AgentToken { .. }
            | Request::BanNode(_)
            | Request::RemoveNode(_) => Err(ControlError::new(
                StatusCode::CONFLICT,
                "a node manages no nodes: its server does",
            )
            .with_hint("run the command at the server, with its site file")),
        }
    }

    async fn status(&self) -> SiteStatus {
        let mut reporters: Vec<&dyn StatusReporter> = vec![&self.agent, &*self.link];
        reporters.extend(
            self.proxy
                .iter()
                .map(|proxy| &**proxy as &dyn StatusReporter),
        );
        let named = (self.name.as_str(), &self.trust_domain);
        process::status(named, &self.readiness, &reporters).await
    }

    pub(super) async fn close(self) {
        self.agent.stopped().await;
    }
}
