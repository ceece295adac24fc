//! Everything that a proxy has open for a site: the gateway, the local listeners, and the links to
//! the site's hub or gateways. All of it is bound before any of it changes.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use renkei_site::{Item, ProxyPart};
use tokio::net::TcpListener;

use crate::{
    gateway::{Gateway, Router},
    hub::{Hub, HubLink, Target},
    inbound::Inbound,
    outbound::{Outbound, OutboundListener, Route},
    sockets::{self, ListenFault, OnClose},
};

/// Where the gateway listens that only links lead to: a port of the system's choice.
const FOR_LINKS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The parts of a proxy that serve what the listeners accept.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) inbound: Arc<Inbound>,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) router: Arc<Router>,
}

#[derive(Debug, Default)]
pub(crate) struct Listeners {
    pub(crate) gateway: Option<Gateway>,
    pub(crate) outbound: BTreeMap<SocketAddr, OutboundListener>,
    pub(crate) links: Vec<HubLink>,
}

/// Sockets that are bound and not yet used.
#[derive(Default)]
pub(crate) struct Bound {
    gateway: Option<TcpListener>,
    outbound: BTreeMap<SocketAddr, TcpListener>,
    routes: Vec<Route>,
    pub(crate) faults: Vec<ListenFault>,
}

impl Listeners {
    /// Where other sites dial the gateway, if they can.
    pub(crate) fn gateway(&self) -> Option<SocketAddr> {
        let listen = self.gateway.as_ref().map(|gateway| gateway.listen);
        listen.filter(|listen| *listen != FOR_LINKS)
    }

    /// Binds what is not bound yet.
    pub(crate) fn bind(&self, site: &ProxyPart) -> Bound {
        let mut bound = Bound::default();
        let listens = self.gateway.as_ref().map(|gateway| gateway.listen);
        let wanted = gateway_listen(site);
        if let Some(address) = wanted.filter(|_| wanted != listens) {
            bound.gateway = bound.bind(address, Item::GatewayListen, OnClose::Finish);
        }
        let new = bound.gateway.as_ref().map(|new| new.local_addr().ok());
        let own = new.unwrap_or_else(|| self.gateway.as_ref().map(|gateway| gateway.address));
        bound.routes = Route::all(site, own.filter(|_| wanted.is_some()));
        for route in bound.routes.clone() {
            if !self.outbound.contains_key(&route.listen)
                && let Some(listener) = bound.bind(route.listen, route.item(), OnClose::Reset)
            {
                bound.outbound.insert(route.listen, listener);
            }
        }
        bound
    }

    /// Starts and stops listeners; says how many.
    pub(crate) async fn commit(
        &mut self,
        site: &ProxyPart,
        mut bound: Bound,
        parts: &Parts,
    ) -> (usize, usize) {
        let (mut opened, mut closed) = (0, 0);
        let gateway = gateway_listen(site);
        if let Some(old) = self.gateway.take_if(|old| Some(old.listen) != gateway) {
            old.close().await;
            closed += 1;
        }
        if let (Some(listener), Some(address)) = (bound.gateway.take(), gateway) {
            self.gateway = Some(Gateway::start(listener, address, parts.router.clone()));
            opened += 1;
        }
        let address = self.gateway.as_ref().map(|gateway| gateway.address);
        parts.hub.set_gateway(address);
        self.link(Target::all(site), &parts.hub);
        let routes = std::mem::take(&mut bound.routes);
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
                    let outbound = OutboundListener::start(listener, route, parts.outbound.clone());
                    self.outbound.insert(address, outbound);
                    opened += 1;
                }
                (None, None) => {}
            }
        }
        (opened, closed)
    }

    /// Keeps the links that are still wanted, and makes those that are new.
    fn link(&mut self, targets: Vec<Target>, hub: &Arc<Hub>) {
        self.links.retain(|link| targets.contains(&link.target));
        for target in targets {
            if self.links.iter().all(|link| link.target != target) {
                self.links.push(hub.link(target));
            }
        }
        hub.show(&self.links);
    }
}

/// The address that the gateway is to be bound to. A process that is reached by links alone needs
/// one that only it dials.
fn gateway_listen(site: &ProxyPart) -> Option<SocketAddr> {
    match &site.gateway {
        Some(gateway) => Some(gateway.listen.unwrap_or(FOR_LINKS)),
        None if site.links.is_empty() => None,
        None => Some(FOR_LINKS),
    }
}

impl Bound {
    fn bind(
        &mut self,
        address: SocketAddr,
        item: Item,
        connections: OnClose,
    ) -> Option<TcpListener> {
        sockets::bind(address, connections)
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
