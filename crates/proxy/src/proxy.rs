//! The proxy as a whole: what it listens on, and how it follows a new desired state.

use std::{path::PathBuf, sync::Arc};

use renkei_api::status::ProxyStatus;
use renkei_runtime::{
    clock, drain::DrainWatch, process::Digests, readiness::Condition, supervise::Supervisor,
};
use renkei_spiffe::Identities;
use rustls::crypto::CryptoProvider;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{Mutex, Semaphore, watch};

use crate::{
    Desired, Elsewhere, Limits,
    flows::Flows,
    hub::{self, Arrivals, HubMetrics, Relays},
    inbound::{Backends, Turns},
    kafka::{BrokerTables, Denials, PortFile},
    listener::ListenFault,
    listeners::Listeners,
    memory,
    metrics::{FlowMetrics, TrunkMetrics},
    outbound::Outbound,
    refusals::Refusals,
    relay, revocation,
    shared::Shared,
    status, sweep,
    trunk::{self, Accepted, Census, Ledger, Trunks},
};

/// What a proxy is built from.
pub struct Setup {
    /// The one crypto provider of the process.
    pub provider: Arc<CryptoProvider>,
    /// SVIDs and bundles, as they are now.
    pub identities: watch::Receiver<Arc<Identities>>,
    /// Takes connections to the gateway that are for no service.
    pub elsewhere: Elsewhere,
    /// Ends it.
    pub drain: DrainWatch,
    /// Keeps the local ports of Kafka brokers over restarts, if it is to be kept.
    pub broker_ports: Option<PathBuf>,
    /// Bounds.
    pub limits: Limits,
    /// Holds when everything is listened on and has its identity.
    pub ready: Condition,
    /// Keeps the proxy's tasks running.
    pub tasks: Supervisor,
}

/// What an application of a desired state did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Applied {
    /// Listeners opened.
    pub opened: usize,
    /// Listeners closed.
    pub closed: usize,
    /// Connections cut, because what they stood on is gone.
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
    shared: Arc<Shared>,
    ready: Condition,
    listeners: Mutex<Listeners>,
}

impl Proxy {
    /// A proxy that listens on nothing yet.
    pub fn new(setup: Setup) -> Self {
        let limits = setup.limits;
        let room = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        let shared = Arc::new(Shared {
            provider: setup.provider,
            identities: setup.identities,
            elsewhere: setup.elsewhere,
            drain: setup.drain,
            limits,
            flows: Arc::default(),
            refusals: Arc::default(),
            desired: arc_swap::ArcSwapOption::empty(),
            digests: Digests::default(),
            backends: Backends::default(),
            brokers: BrokerTables::default(),
            denials: Denials::default(),
            broker_ports: setup.broker_ports.map(PortFile::open),
            outbound_room: room(limits.connections),
            trunks: Trunks::default(),
            accepted: Accepted::default(),
            ledger: Arc::new(Ledger::new(limits.memory)),
            census: Arc::new(Census::default()),
            gateway: arc_swap::ArcSwapOption::empty(),
            link: arc_swap::ArcSwapOption::empty(),
            arrivals: Arrivals::default(),
            relays: Relays::default(),
            inbound_room: room(limits.connections),
            turns: Turns::new(limits.handshakes),
            dial_room: room(limits.dials),
            tasks: setup.tasks,
            due: Arc::default(),
        });
        keep_tasks(&shared, &setup.ready);
        Self {
            shared,
            ready: setup.ready,
            listeners: Mutex::default(),
        }
    }

    /// Puts the proxy's metrics into a registry.
    pub fn register(&self, registry: &mut prometheus_client::registry::Registry) {
        self.shared.refusals.register(registry);
        registry.register_collector(Box::new(FlowMetrics(self.shared.flows.clone())));
        registry.register_collector(Box::new(TrunkMetrics(self.shared.census.clone())));
        registry.register_collector(Box::new(HubMetrics(Arc::downgrade(&self.shared))));
    }

    /// Follows a new desired state: all of it, or nothing if an address cannot be listened on.
    /// Connections that it still allows go on.
    pub async fn apply(&self, desired: Desired) -> Result<Applied, ApplyError> {
        let mut listeners = self.listeners.lock().await;
        let bound = listeners.bind(&desired.site);
        if !bound.faults.is_empty() {
            return Err(ApplyError {
                faults: bound.faults,
            });
        }
        let open_before = self.shared.flows.list();
        let desired = Arc::new(desired);
        let old = self.shared.desired.swap(Some(desired.clone()));
        let old = old.as_deref();
        if old.is_none_or(|old| old.site.services != desired.site.services) {
            self.shared.brokers.forget();
        }
        self.shared.relays.follow(&desired.site.relays);
        let (opened, closed) = listeners.commit(&desired.site, bound, &self.shared).await;
        self.shared
            .flows
            .cut_where(|flow| revocation::by_site(flow, old, &desired));
        // The trunks of sites that are no peers any more.
        self.shared.due.note(OffsetDateTime::UNIX_EPOCH);
        set_readiness(&self.ready, &self.shared);
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
        let routes = listeners.outbound.values().map(Outbound::route);
        let hub = listeners.link.as_ref().map(hub::hub);
        status::collect((listeners.gateway(), hub), routes, &self.shared)
    }

    /// The register of connections.
    pub fn flows(&self) -> &Arc<Flows> {
        &self.shared.flows
    }

    /// The refusals so far.
    pub fn refusals(&self) -> &Arc<Refusals> {
        &self.shared.refusals
    }
}

/// The tasks of the proxy as a whole; they end with it.
fn keep_tasks(shared: &Arc<Shared>, ready: &Condition) {
    let (weak, ready) = (Arc::downgrade(shared), ready.clone());
    let over = {
        let weak = weak.clone();
        move || weak.strong_count() == 0
    };
    let follow = move || sweep::follow(weak.clone(), ready.clone());
    shared.tasks.keep("withdrawn rights", over, follow);
    let (drain, flows) = (shared.drain.clone(), shared.flows.clone());
    let over = {
        let drain = drain.clone();
        move || drain.is_forced()
    };
    let give_back = || memory::give_back_unused([&relay::READS, &trunk::READS]);
    shared.tasks.keep("unused buffers", over.clone(), give_back);
    let cut = move || cut_when_forced(drain.clone(), flows.clone());
    shared.tasks.keep("forced end", over, cut);
}

pub(crate) fn set_readiness(ready: &Condition, shared: &Shared) {
    let Some(desired) = shared.desired.load_full() else {
        return;
    };
    let (identities, now) = (shared.identities(), clock::now());
    let site = &desired.site;
    let mut callers: Vec<_> = site.listeners.iter().map(|one| &one.caller).collect();
    callers.dedup();
    let hub = site
        .gateway
        .as_ref()
        .and_then(|gateway| gateway.via.as_ref());
    // Both ends of a link are servers.
    let server = (hub.is_some() || !site.relays.is_empty()).then_some(&site.server_id);
    let needed = callers
        .into_iter()
        .chain(site.services.values().map(|service| &service.id))
        .chain(server);
    let missing: Vec<_> = needed
        .filter(|id| identities.valid_svid(id, now).is_err())
        .map(|id| id.short())
        .collect();
    match missing.is_empty() {
        true => ready.set_ready(),
        false => ready.set_not_ready(format!("no identity for {}", missing.join(", "))),
    }
}

async fn cut_when_forced(drain: DrainWatch, flows: Arc<Flows>) {
    drain.forced().await;
    flows.cut_where(|_| Some(revocation::PROCESS_ENDS));
}
