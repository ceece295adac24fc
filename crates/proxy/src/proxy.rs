//! The proxy as a whole: what it listens on, and how it follows a new desired state.

use std::{path::PathBuf, sync::Arc};

use renkei_api::status::{ProxyStatus, ReportFuture, RoleStatus, StatusReporter};
use renkei_runtime::{drain::DrainWatch, readiness::Condition, supervise::Supervisor};
use renkei_spiffe::Identities;
use rustls::crypto::CryptoProvider;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{Mutex, watch};

use crate::{
    admission::Admission,
    authorization::revocation,
    bandwidth::Bandwidths,
    config::{Desired, ProxyLimits},
    context::{Context, Flows, Refusals},
    gateway::{DefaultHandler, Router},
    hub::{Hub, HubMetrics, own_links},
    inbound::{BackendMetrics, Inbound},
    listeners::{Listeners, Parts},
    metrics::{FlowMetrics, PlaceMetrics, TrunkMetrics},
    outbound::{Outbound, OutboundListener},
    readiness, record,
    relay::{self, buffers},
    sockets::ListenFault,
    status, sweep,
    trunk::{Acceptor, Connector, KeyLimits, TrunkContext, TrunkLimits},
};

/// What a proxy is built from.
pub struct Setup {
    /// The one crypto provider of the process.
    pub provider: Arc<CryptoProvider>,
    /// SVIDs and bundles, as they are now.
    pub identities: watch::Receiver<Arc<Identities>>,
    /// Takes connections to the gateway that are for no service.
    pub default_handler: DefaultHandler,
    /// Ends the proxy.
    pub drain: DrainWatch,
    /// Keeps the local ports of Kafka brokers over restarts, if it is to be kept.
    pub broker_ports: Option<PathBuf>,
    /// How much it takes on at once.
    pub limits: ProxyLimits,
    /// Holds when everything is listened on and has its identity.
    pub ready: Condition,
    /// Keeps the proxy's tasks running.
    pub tasks: Supervisor,
}

/// What an application of a desired state did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Applied {
    /// How many listeners were opened.
    pub opened: usize,
    /// How many listeners were closed.
    pub closed: usize,
    /// Connections cut, because their right is gone.
    pub cut: usize,
}

/// Addresses that cannot be listened on, all of them. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("{}", .faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ApplyError {
    /// Each address with its reason.
    pub faults: Vec<ListenFault>,
}

impl ApplyError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let mut hints: Vec<&str> = self.faults.iter().map(ListenFault::hint).collect();
        hints.dedup();
        hints.join("; ")
    }
}

/// The data plane of one site.
#[derive(Debug)]
pub struct Proxy {
    context: Arc<Context>,
    parts: Parts,
    trunks: Arc<TrunkContext>,
    ready: Condition,
    listeners: Mutex<Listeners>,
}

impl Proxy {
    /// A proxy that listens on nothing yet.
    pub fn new(setup: Setup) -> Self {
        let limits = setup.limits;
        let context = Arc::new(Context {
            provider: setup.provider,
            identities: setup.identities,
            drain: setup.drain,
            limits,
            flows: Arc::default(),
            refusals: Arc::default(),
            desired: arc_swap::ArcSwapOption::empty(),
            tasks: setup.tasks,
            expiry: Arc::default(),
            bandwidths: Bandwidths::default(),
        });
        let admission = Arc::new(Admission::new(&limits));
        let trunks = TrunkContext::new(
            context.identities.clone(),
            context.drain.clone(),
            context.provider.clone(),
            TrunkLimits {
                memory: limits.memory,
                grace: limits.grace,
                bundle_grace: limits.bundle_grace,
                handshake_timeout: limits.handshake_timeout,
                keys: KeyLimits {
                    records_per_key: limits.records_per_key,
                    records_per_lane: limits.records_per_lane,
                },
            },
        );
        let connector = Arc::new(Connector::new(trunks.clone()));
        let acceptor = Acceptor::new(trunks.clone());
        let shared = (&context, &admission);
        let inbound = Inbound::new(shared, acceptor.clone());
        let hub = Hub::new(shared, connector.clone(), acceptor);
        let outbound = Outbound::new(shared, (connector, hub.clone()), setup.broker_ports);
        let router = Router {
            context: context.clone(),
            admission: admission.clone(),
            inbound: inbound.clone(),
            hub: hub.clone(),
            default_handler: setup.default_handler,
        };
        let parts = Parts {
            inbound,
            outbound,
            hub,
            router: Arc::new(router),
        };
        keep_tasks(&context, &parts.hub, &trunks, &setup.ready);
        Self {
            context,
            parts,
            trunks,
            ready: setup.ready,
            listeners: Mutex::default(),
        }
    }

    /// Puts the proxy's metrics into a registry.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.context.refusals.register(registry);
        registry.register_collector(Box::new(FlowMetrics(self.context.flows.clone())));
        registry.register_collector(Box::new(TrunkMetrics(self.trunks.table.clone())));
        let admission = self.parts.router.admission.clone();
        registry.register_collector(Box::new(PlaceMetrics(admission)));
        registry.register_collector(Box::new(HubMetrics(Arc::downgrade(&self.parts.hub))));
        let inbound = Arc::downgrade(&self.parts.inbound);
        registry.register_collector(Box::new(BackendMetrics(inbound)));
    }

    /// Follows a new desired state: all of it, or nothing if an address cannot be listened on.
    /// Connections that it still allows continue.
    pub async fn apply(&self, desired: Desired) -> Result<Applied, ApplyError> {
        let mut listeners = self.listeners.lock().await;
        let bound = listeners.bind(&desired.site);
        if !bound.faults.is_empty() {
            return Err(ApplyError {
                faults: bound.faults,
            });
        }
        let open_before = self.context.flows.list();
        let desired = Arc::new(desired);
        let old = self.context.desired.swap(Some(desired.clone()));
        let old = old.as_deref();
        if old.is_none_or(|old| old.site.services != desired.site.services) {
            self.parts.inbound.follow(&desired.site.services);
        }
        self.context.bandwidths.follow(&desired.site);
        let gateway = desired.site.gateway.as_ref();
        self.trunks
            .limit_lanes(gateway.and_then(|gateway| gateway.max_lanes));
        self.parts.hub.follow(&desired.site);
        let (opened, closed) = listeners.commit(&desired.site, bound, &self.parts).await;
        self.context
            .flows
            .cut_where(|flow| revocation::by_site(flow, old, &desired));
        // The trunks of sites that are no peers any more.
        self.context.expiry.note(OffsetDateTime::UNIX_EPOCH);
        readiness::set(&self.ready, &self.context);
        let cut = open_before
            .iter()
            .filter(|flow| flow.cut_token().is_cancelled())
            .count();
        Ok(Applied {
            opened,
            closed,
            cut,
        })
    }

    /// Everything a person may want to see.
    pub async fn status(&self) -> ProxyStatus {
        let listeners = self.listeners.lock().await;
        let routes = listeners.outbound.values().map(OutboundListener::route);
        let links = own_links(&listeners.links);
        let ends = (listeners.gateway(), links, self.parts.hub.accepted_links());
        let backends = self.parts.inbound.backend_status();
        status::collect(ends, (routes, backends), &self.trunks.table, &self.context)
    }

    /// The register of connections.
    pub fn flows(&self) -> &Arc<Flows> {
        &self.context.flows
    }

    /// The refusals so far.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.context.refusals
    }
}

impl StatusReporter for Proxy {
    fn report(&self) -> ReportFuture<'_> {
        Box::pin(async { RoleStatus::Proxy(Box::new(self.status().await)) })
    }
}

/// The tasks of the proxy as a whole; they end with it.
fn keep_tasks(
    context: &Arc<Context>,
    hub: &Arc<Hub>,
    trunks: &Arc<TrunkContext>,
    ready: &Condition,
) {
    let sweeper = sweep::Sweeper {
        context: Arc::downgrade(context),
        hub: Arc::downgrade(hub),
        trunks: trunks.table.clone(),
        withdrawn: trunks.withdrawn.clone(),
        ready: ready.clone(),
    };
    let sweeper = Arc::new(sweeper);
    let over = {
        let sweeper = sweeper.clone();
        move || sweeper.is_over()
    };
    let follow = move || {
        let sweeper = sweeper.clone();
        async move { sweeper.run().await }
    };
    context.tasks.keep("withdrawn rights", over, follow);
    let (drain, flows) = (context.drain.clone(), context.flows.clone());
    let over = {
        let drain = drain.clone();
        move || drain.is_forced()
    };
    let give_back = || buffers::give_back_unused([&relay::READS, &record::READS]);
    context
        .tasks
        .keep("unused buffers", over.clone(), give_back);
    let cut = move || cut_when_forced(drain.clone(), flows.clone());
    context.tasks.keep("forced end", over, cut);
}

async fn cut_when_forced(drain: DrainWatch, flows: Arc<Flows>) {
    drain.forced().await;
    flows.cut_where(|_| Some(revocation::PROCESS_ENDS));
}
