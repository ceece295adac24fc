//! Local listeners: one for every service that a workload uses.

mod connection;
mod dial;
mod failure;

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use renkei_site::{HostPort, Item, Listener, ProxyPart, Selector, own_address};
use renkei_spiffe::SpiffeId;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{kafka::Brokers, listener, local_caller, shared::Shared};

pub(crate) use dial::dial_peer;
pub(crate) use failure::Failure;

/// The route of a listener, which may change while it listens.
pub(crate) type Routes = Arc<ArcSwap<Route>>;

/// Where the connections of one listener go, and whose they may be.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) workload: String,
    pub(crate) caller: SpiffeId,
    pub(crate) selectors: Vec<Selector>,
    pub(crate) target: SpiffeId,
    pub(crate) listen: SocketAddr,
    /// Nothing if the site file does not say where the target's gateway is.
    pub(crate) gateway: Option<HostPort>,
    /// The listeners for the brokers behind the target, if it speaks Kafka.
    pub(crate) brokers: Arc<Brokers>,
    /// Cuts the connections of this route.
    pub(crate) cut: CancellationToken,
}

impl Route {
    /// The routes of a site whose gateway is bound to `own`.
    pub(crate) fn all(site: &ProxyPart, own: Option<SocketAddr>) -> Vec<Self> {
        let route = |listener: &Listener| Self {
            workload: listener.workload.clone(),
            caller: listener.caller.clone(),
            selectors: listener.selectors.clone(),
            target: listener.target.clone(),
            listen: listener.listen,
            gateway: gateway_of(site, &listener.target, own),
            brokers: Arc::default(),
            cut: CancellationToken::new(),
        };
        site.listeners.iter().map(route).collect()
    }

    /// Whether connections of the other route may go on under this one. Another address of the
    /// same gateway concerns new connections only.
    fn continues(&self, old: &Self) -> bool {
        self.caller == old.caller && self.selectors == old.selectors && self.target == old.target
    }

    /// Where the route stands in the site file.
    pub(crate) fn item(&self) -> Item {
        Item::Use(self.workload.clone(), self.target.clone())
    }
}

/// Where the target's gateway is dialled; this site's own at the address that it is bound to.
fn gateway_of(site: &ProxyPart, target: &SpiffeId, own: Option<SocketAddr>) -> Option<HostPort> {
    match target.trust_domain() {
        name if *name == site.trust_domain => own.map(|own| own_address(own).into()),
        name => site.gateway_of(name),
    }
}

/// A listener that accepts until it is dropped.
#[derive(Debug)]
pub(crate) struct Outbound {
    routes: Routes,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Outbound {
    pub(crate) fn start(listener: TcpListener, route: Route, shared: Arc<Shared>) -> Self {
        let brokers = route.brokers.clone();
        let routes = Arc::new(ArcSwap::from_pointee(route));
        let stop = CancellationToken::new();
        brokers.reopen(&routes, &shared);
        local_caller::hold_ends(&listener);
        let task = tokio::spawn(serve(listener, None, routes.clone(), shared, stop.clone()));
        Self {
            routes,
            stop,
            task: Some(task),
        }
    }

    /// Closes the listener, and cuts its connections.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // An error means that it has ended all the same.
            let _ = task.await;
        }
    }

    pub(crate) fn route(&self) -> Arc<Route> {
        self.routes.load_full()
    }

    /// Goes on with another route on the same address. If it is for another caller or another
    /// service, the open connections are cut.
    pub(crate) fn follow(&self, mut new: Route) {
        let old = self.route();
        let continues = new.continues(&old);
        if continues {
            new.brokers = old.brokers.clone();
            new.cut = old.cut.clone();
        }
        self.routes.store(Arc::new(new));
        if !continues {
            old.cut.cancel();
        }
    }
}

impl Drop for Outbound {
    fn drop(&mut self) {
        self.stop.cancel();
        self.routes.load().cut.cancel();
    }
}

/// Accepts connections for one broker of the route's target, as long as the route stands.
pub(crate) async fn serve_broker(
    listener: TcpListener,
    node: i32,
    routes: Routes,
    shared: Arc<Shared>,
) {
    let stop = routes.load().cut.clone();
    local_caller::hold_ends(&listener);
    serve(listener, Some(node), routes, shared, stop).await;
}

async fn serve(
    listener: TcpListener,
    node: Option<i32>,
    routes: Routes,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let open = shared.drain.guard();
    let over = || stop.is_cancelled() || shared.drain.is_signaled();
    let accept = || accept(&listener, node, &routes, &shared, &stop);
    let address = listener.local_addr().unwrap_or(routes.load().listen);
    let tasks = shared.tasks.clone();
    tasks.run(format!("listener {address}"), over, accept).await;
    // The address is free before the drain is told so.
    drop(listener);
    drop(open);
}

async fn accept(
    listener: &TcpListener,
    node: Option<i32>,
    routes: &Routes,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
) {
    let ended = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = shared.drain.signaled() => {}
        }
    };
    tokio::pin!(ended);
    loop {
        let next = async {
            let room = shared.outbound_room.clone().acquire_owned().await;
            (room, listener::accept(listener).await)
        };
        let (room, (stream, peer)) = tokio::select! {
            biased;
            () = &mut ended => break,
            next = next => next,
        };
        let caller = stream
            .local_addr()
            .map(|local| local_caller::Caller::at(peer, local));
        let (routes, shared) = (routes.clone(), shared.clone());
        let guard = shared.drain.guard();
        tokio::spawn(async move {
            connection::run(stream, (peer, caller.ok()), (routes, node), shared, guard).await;
            drop(room);
        });
    }
}
