//! The proxy as a whole: what it listens on, and how it follows a new desired state.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc};

use renkei_runtime::{drain::DrainWatch, process::Digests, readiness::Condition};
use renkei_site::Item;
use renkei_spiffe::Identities;
use rustls::crypto::CryptoProvider;
use serde::Serialize;
use tokio::{
    net::TcpListener,
    sync::{Mutex, Semaphore, watch},
};

use crate::{
    Desired, Elsewhere, Limits, ProxyStatus,
    flows::Flows,
    inbound::{Backends, Gateway, Turns},
    kafka::{BrokerTables, Denials, PortFile},
    listener::{self, ListenFault},
    metrics::FlowMetrics,
    outbound::{Outbound, Route},
    refusals::Refusals,
    revocation,
    shared::Shared,
    status,
    trunk::{Accepted, Trunks},
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

#[derive(Debug, Default)]
struct Listeners {
    gateway: Option<Gateway>,
    outbound: BTreeMap<SocketAddr, Outbound>,
}

/// Sockets that are bound and not yet used.
#[derive(Default)]
struct Bound {
    gateway: Option<TcpListener>,
    outbound: BTreeMap<SocketAddr, TcpListener>,
    faults: Vec<ListenFault>,
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
            inbound_room: room(limits.connections),
            turns: Turns::new(limits.handshakes),
            dial_room: room(limits.dials),
        });
        tokio::spawn(follow_identities(
            Arc::downgrade(&shared),
            setup.ready.clone(),
        ));
        tokio::spawn(cut_when_forced(shared.drain.clone(), shared.flows.clone()));
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
    }

    /// Follows a new desired state: all of it, or nothing if an address cannot be listened on.
    /// Connections that it still allows go on.
    pub async fn apply(&self, desired: Desired) -> Result<Applied, ApplyError> {
        let mut listeners = self.listeners.lock().await;
        let routes = Route::all(&desired.site);
        let bound = listeners.bind(&desired, &routes);
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
        let (opened, closed) = listeners
            .commit(&desired, routes, bound, &self.shared)
            .await;
        self.shared
            .flows
            .cut_where(|flow| revocation::by_site(flow, old, &desired));
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
        let gateway = listeners.gateway.as_ref().map(|gateway| gateway.listen);
        let routes = listeners.outbound.values().map(Outbound::route);
        status::collect(gateway, routes, &self.shared)
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

impl Listeners {
    /// Binds what is not bound yet.
    fn bind(&self, desired: &Desired, routes: &[Route]) -> Bound {
        let mut bound = Bound::default();
        let site = &desired.site;
        let old = self.gateway.as_ref().map(|gateway| gateway.listen);
        let new = site.gateway.as_ref().map(|gateway| gateway.listen);
        if let Some(address) = new.filter(|_| new != old) {
            bound.gateway = bound.bind(address, Item::GatewayListen);
        }
        for route in routes
            .iter()
            .filter(|route| !self.outbound.contains_key(&route.listen))
        {
            if let Some(listener) = bound.bind(route.listen, route.item()) {
                bound.outbound.insert(route.listen, listener);
            }
        }
        bound
    }

    /// Starts and stops listeners; says how many.
    async fn commit(
        &mut self,
        desired: &Desired,
        routes: Vec<Route>,
        mut bound: Bound,
        shared: &Arc<Shared>,
    ) -> (usize, usize) {
        let (mut opened, mut closed) = (0, 0);
        let gateway = desired.site.gateway.as_ref().map(|gateway| gateway.listen);
        if let Some(old) = self.gateway.take_if(|old| Some(old.listen) != gateway) {
            old.close().await;
            closed += 1;
        }
        if let (Some(listener), Some(address)) = (bound.gateway.take(), gateway) {
            self.gateway = Some(Gateway::start(listener, address, shared.clone()));
            opened += 1;
        }
        let kept = |address: &SocketAddr| routes.iter().any(|route| route.listen == *address);
        for (_, outbound) in self.outbound.extract_if(.., |address, _| !kept(address)) {
            outbound.close().await;
            closed += 1;
        }
        for route in routes {
            let address = route.listen;
            match (self.outbound.get(&address), bound.outbound.remove(&address)) {
                (Some(outbound), _) => outbound.follow(route),
                (None, Some(listener)) => {
                    let outbound = Outbound::start(listener, route, shared.clone());
                    self.outbound.insert(address, outbound);
                    opened += 1;
                }
                (None, None) => {}
            }
        }
        (opened, closed)
    }
}

impl Bound {
    fn bind(&mut self, address: SocketAddr, item: Item) -> Option<TcpListener> {
        listener::bind(address)
            .map_err(|error| {
                self.faults.push(ListenFault {
                    item,
                    address,
                    error,
                })
            })
            .ok()
    }
}

/// Cuts the connections of withdrawn bundles, and keeps the readiness up to date. Renewed SVIDs
/// are for new connections; open ones do not notice.
async fn follow_identities(shared: std::sync::Weak<Shared>, ready: Condition) {
    let Some(mut identities) = shared.upgrade().map(|shared| shared.identities.clone()) else {
        return;
    };
    while identities.changed().await.is_ok() {
        let bundles = identities.borrow_and_update().bundles.clone();
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared
            .flows
            .cut_where(|flow| revocation::by_bundles(flow, &bundles));
        set_readiness(&ready, &shared);
    }
}

fn set_readiness(ready: &Condition, shared: &Shared) {
    let Some(desired) = shared.desired.load_full() else {
        return;
    };
    let identities = shared.identities();
    let callers = desired
        .site
        .workloads
        .values()
        .filter(|workload| !workload.uses.is_empty());
    let needed = callers
        .map(|workload| &workload.id)
        .chain(desired.site.services.values().map(|service| &service.id));
    let missing: Vec<_> = needed
        .filter(|id| !identities.svids.contains_key(id))
        .map(|id| id.short())
        .collect();
    match missing.is_empty() {
        true => ready.set_ready(),
        false => ready.set_not_ready(format!("no identity yet for {}", missing.join(", "))),
    }
}

async fn cut_when_forced(drain: DrainWatch, flows: Arc<Flows>) {
    drain.forced().await;
    flows.cut_where(|_| Some(revocation::PROCESS_ENDS));
}
