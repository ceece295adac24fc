//! Where the connections of a local listener go, and whose they may be.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use renkei_site::{HostPort, Item, Listener, ProxyPart, Selector, own_address};
use renkei_spiffe::SpiffeId;
use tokio_util::sync::CancellationToken;

use super::{brokers::Brokers, reachability::Reachability};
use crate::identity::{Direction, Pair};

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
    /// The gateway of the own site by whose link other sites are reached, if they are not dialled.
    pub(crate) exit: Option<SpiffeId>,
    /// The listeners for the brokers behind the target, if it speaks Kafka.
    pub(crate) brokers: Arc<Brokers>,
    /// Whether the target can be reached.
    pub(crate) reachability: Arc<Reachability>,
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
            exit: site
                .exit
                .clone()
                .filter(|_| *listener.target.trust_domain() != site.trust_domain),
            brokers: Arc::default(),
            reachability: Arc::default(),
            cut: CancellationToken::new(),
        };
        site.listeners.iter().map(route).collect()
    }

    /// Whether connections of the other route may continue under this one. Another address of the
    /// same gateway concerns new connections only.
    pub(super) fn continues(&self, old: &Self) -> bool {
        self.caller == old.caller && self.selectors == old.selectors && self.target == old.target
    }

    /// Who talks to whom by this route.
    pub(super) fn pair(&self) -> Pair {
        Pair {
            direction: Direction::Outbound,
            caller: self.caller.clone(),
            callee: self.target.clone(),
        }
    }

    /// Where the site file has the route.
    pub(crate) fn item(&self) -> Item {
        Item::Use(self.workload.clone(), self.target.clone())
    }
}

/// Where the target's gateway is dialled; this process's own at the address that it is bound to.
fn gateway_of(site: &ProxyPart, target: &SpiffeId, own: Option<SocketAddr>) -> Option<HostPort> {
    let name = target.trust_domain();
    if *name != site.trust_domain {
        return site.gateway_of(name);
    }
    let is_here = || site.services.values().any(|service| service.id == *target);
    match site.gateway.is_some() || is_here() {
        true => own.map(|own| own_address(own).into()),
        false => site.site_gateway.clone(),
    }
}
