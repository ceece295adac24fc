//! The roles of a site, put together from its file.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use arc_swap::ArcSwap;
use miette::miette;
use renkei_proxy::{DefaultHandler, Proxy, Untouched};
use renkei_runtime::{readiness::Condition, telemetry::ConfigMetrics};
use renkei_server::{EntriesState, federation::Members};
use renkei_site::{ServerPart, Site};
use renkei_spiffe::{Identities, SpiffeId};
use tokio::sync::{Mutex, watch};

use crate::{
    cli::Up,
    identity::{Plane, ServerInputs},
    load::Loaded,
    node_args::NodeProxy,
    place,
    process::{self, Shared},
    running::{Applied, NO_AUTHORITY, NoNode, NodeMap, Projected, Running, absolute, with_places},
};

/// What the roles follow, and the other ends of it.
struct Begun {
    applied: Applied,
    server_part: watch::Sender<Arc<ServerPart>>,
    nodes: watch::Sender<NodeMap>,
}

impl Begun {
    fn new(loaded: Loaded, node: Option<&str>) -> Result<Self, NoNode> {
        let applied = Applied::new(loaded, node)?;
        let first = applied.project(&Members::default(), &BTreeSet::new(), 0);
        Ok(Self {
            applied,
            server_part: watch::Sender::new(first.server),
            nodes: watch::Sender::new(first.nodes),
        })
    }

    fn server_inputs<'a>(&self, state: &Path, shared: &'a Shared) -> ServerInputs<'a> {
        ServerInputs {
            state: state.to_owned(),
            part: self.server_part.subscribe(),
            nodes: self.nodes.subscribe(),
            metrics: &shared.metrics,
            tasks: shared.tasks.clone(),
            stop: shared.stop.clone(),
        }
    }

    /// The last good state of a federation is in force from the first connection on.
    fn link(&self, plane: &Plane) -> Projected {
        let (members, banned) = (plane.present_members(), plane.banned_nodes());
        let linked = self.applied.project(&members, &banned, 1);
        self.server_part.send_replace(linked.server.clone());
        self.nodes.send_replace(linked.nodes.clone());
        linked
    }

    fn running(
        self,
        file: &Path,
        state: &Path,
        shared: &Shared,
        (site, plane, proxy): (Arc<Site>, Plane, Option<Proxy>),
    ) -> Running {
        let config = shared.metrics.register(ConfigMetrics::register);
        config.applied();
        Running {
            file: absolute(file),
            site: ArcSwap::from(site),
            version: AtomicU64::new(1),
            server_part: self.server_part,
            nodes: self.nodes,
            plane,
            proxy,
            readiness: shared.readiness.clone(),
            config,
            applied: Mutex::new(self.applied),
            state: state.to_owned(),
        }
    }
}

/// Opens everything; afterwards every listener is open.
pub(super) async fn start(
    args: &Up,
    loaded: Loaded,
    state: &Path,
    shared: &Shared,
) -> miette::Result<Running> {
    let site = loaded.site.clone();
    let begun = Begun::new(loaded, None)?;
    let plane = plane(args, &site, &begun, state, shared).await?;
    watch_readiness(&plane, &site, shared);
    with_proxy(&args.site.file, (begun, plane), state, shared).await
}

/// Opens the proxy of a node alone.
pub(super) async fn start_proxy(
    args: &NodeProxy,
    loaded: Loaded,
    state: &Path,
    shared: &Shared,
) -> miette::Result<Running> {
    let plane = foreign(&args.workload_api, &loaded.site, shared)?;
    let begun = Begun::new(loaded, Some(&args.node))?;
    with_proxy(&args.site.file, (begun, plane), state, shared).await
}

async fn with_proxy(
    file: &Path,
    (begun, plane): (Begun, Plane),
    state: &Path,
    shared: &Shared,
) -> miette::Result<Running> {
    let site = begun.applied.site.clone();
    let broker_ports = Some(state.join("broker-ports.json"));
    let endpoint = bundle_endpoint(&plane);
    let setup = process::proxy_setup(shared, plane.identities(), endpoint, broker_ports);
    let proxy = Proxy::new(setup);
    let ends = Box::new(renkei_agent::SvidEnds(plane.identities()));
    shared.metrics.register(|registry| {
        registry.register_collector(ends);
        proxy.register(registry);
    });
    let linked = begun.link(&plane);
    proxy
        .apply(linked.proxy)
        .await
        .map_err(|error| miette!(help = error.hint(), "{}", with_places(&site, &error)))?;
    tracing::info!(site = site.name, trust_domain = %site.trust_domain, "every listener is open");
    let roles = (linked.site, plane, Some(proxy));
    Ok(begun.running(file, state, shared, roles))
}

/// Opens the server alone.
pub(super) async fn start_server(
    file: &Path,
    loaded: Loaded,
    state: &Path,
    shared: &Shared,
) -> miette::Result<Running> {
    let site = loaded.site.clone();
    let begun = Begun::new(loaded, None)?;
    let plane = Plane::server(begun.server_inputs(state, shared)).await?;
    watch_readiness(&plane, &site, shared);
    let linked = begun.link(&plane);
    tracing::info!(site = site.name, trust_domain = %site.trust_domain, "the server is open for nodes");
    let roles = (linked.site, plane, None);
    Ok(begun.running(file, state, shared, roles))
}

/// A site with an authority of its own is ready when it has its certificate and its entries.
fn watch_readiness(plane: &Plane, site: &Site, shared: &Shared) {
    let readiness = &shared.readiness;
    if plane.own_server().is_some() {
        let ready = readiness.condition("bundle endpoint");
        let certified = until_certified(plane.identities(), site.server_id.clone(), ready);
        tokio::spawn(certified);
    }
    if let Some(state) = plane.entries_state() {
        tokio::spawn(follow_entries(state, readiness.condition("entries")));
    }
}

/// Where the identities come from: an authority of the site's own, or the Workload API that was
/// named.
async fn plane(
    args: &Up,
    site: &Site,
    begun: &Begun,
    state: &Path,
    shared: &Shared,
) -> miette::Result<Plane> {
    if let Some(socket) = &args.workload_api {
        return foreign(socket, site, shared);
    }
    let given = args.workload_socket.clone();
    let socket = given.unwrap_or_else(|| place::workload_socket(state));
    Plane::own(
        begun.server_inputs(state, shared),
        socket,
        site.workload_api,
    )
    .await
}

fn foreign(socket: &str, site: &Site, shared: &Shared) -> miette::Result<Plane> {
    if site.federation.is_some() {
        return Err(miette!(
            help = "name the sites under `peers`, or remove --workload-api",
            "{NO_AUTHORITY}"
        ));
    }
    Plane::foreign(socket, shared.tasks.clone(), shared.stop.clone())
}

/// Peers may read the bundle endpoint as soon as it has a certificate.
async fn until_certified(
    mut identities: watch::Receiver<Arc<Identities>>,
    id: SpiffeId,
    ready: Condition,
) {
    let certified = identities.wait_for(|now| now.svids.contains_key(&id)).await;
    if certified.is_ok() {
        ready.set_ready();
    }
}

/// A site is not ready while entries of its file wait for the database.
async fn follow_entries(mut state: watch::Receiver<EntriesState>, ready: Condition) {
    loop {
        match &state.borrow_and_update().failed {
            Some(reason) => ready.set_not_ready(reason),
            None => ready.set_ready(),
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Connections to the gateway that are for no service read the bundle endpoint; a site whose
/// identities come from elsewhere has none, and closes them.
fn bundle_endpoint(plane: &Plane) -> DefaultHandler {
    let Plane::Own { server, .. } = plane else {
        return Arc::new(|_| Box::pin(async {}));
    };
    let endpoint = server.endpoint();
    let identities = plane.identities();
    Arc::new(move |connection| {
        let Untouched {
            stream, received, ..
        } = connection;
        let endpoint = endpoint.clone();
        let identities = identities.clone();
        Box::pin(async move {
            if let Err(error) = endpoint.serve(stream, received, &identities).await {
                tracing::debug!(%error, "a reader of the bundle endpoint went away");
            }
        })
    })
}
