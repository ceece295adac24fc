//! Sites that accept no connections, reached through a hub, and nodes that accept none, reached
//! through a gateway of their own site.
//!
//! ```text
//!  caller ──TLS─────────────────────────────────────────────────▶ gateway of the site
//!         ──TCP──▶ hub's gateway ══ link, a trunk that the site dialled ══▶ site's proxy ──▶
//! ```
//!
//! The site dials the hub and keeps the link (ALPN `renkei-relay/1.1`) for ever; both prove
//! themselves with the SVID of their server. A ClientHello that comes to the hub's gateway for a
//! name of the site's trust domain is not answered there: its bytes, and all that follow both
//! ways, travel in a stream of the link to the site, whose gateway completes the handshake. The
//! hub holds no key of what passes.
//!
//! Between a node and a gateway of its site it is the same, with the identity of the node: the
//! gateway forwards the server names of the services that the node holds.

mod exit;
mod forward;
mod link;
mod link_handshake;
mod link_state;
mod links;
mod loopback_bridge;
mod status;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use renkei_site::ProxyPart;
use renkei_spiffe::BundleSet;

use crate::{
    admission::{Admission, Source},
    context::Context,
    identity::Withdrawn,
    trunk::{Acceptor, Connector},
};

use link::LinkParts;
use links::Links;
use loopback_bridge::LoopbackBridge;

pub(crate) use link::{HubLink, Target};
pub(crate) use link_state::LinkState;
pub(crate) use links::LinkEnd;
pub(crate) use status::{HubMetrics, OwnLinks, own_links};

/// The link between a gateway and one that only dials out.
pub(crate) const ALPN_RELAY: [&[u8]; 2] = [b"renkei-relay/1.1", b"renkei-relay/1"];

/// This process as a hub or gateway, and as one that is reached through others.
#[derive(Debug)]
pub(crate) struct Hub {
    context: Arc<Context>,
    admission: Arc<Admission>,
    connector: Arc<Connector>,
    acceptor: Arc<Acceptor>,
    links: Links,
    bridge: Arc<LoopbackBridge>,
    /// The links that this process has dialled.
    own: ArcSwap<Vec<(Target, Arc<LinkState>)>>,
}

impl Hub {
    pub(crate) fn new(
        (context, admission): (&Arc<Context>, &Arc<Admission>),
        connector: Arc<Connector>,
        acceptor: Arc<Acceptor>,
    ) -> Arc<Self> {
        Arc::new(Self {
            context: context.clone(),
            admission: admission.clone(),
            connector,
            acceptor,
            links: Links::default(),
            bridge: Arc::default(),
            own: ArcSwap::default(),
        })
    }

    /// Takes links of the sites that this one relays for and of the nodes whose services are
    /// reached through here, from now on, and of no others.
    pub(crate) fn follow(&self, site: &ProxyPart) {
        self.links.follow(&ends_of(site), &site.exits);
    }

    /// Ends the links of those whose bundles are not known any more.
    pub(crate) fn follow_bundles(&self, bundles: &BundleSet, withdrawn: &Withdrawn) {
        self.links.follow_bundles(bundles, withdrawn);
    }

    /// The address that this site's gateway is bound to, for what comes through its hub.
    pub(crate) fn set_gateway(&self, gateway: Option<SocketAddr>) {
        self.bridge.set_gateway(gateway);
    }

    /// The far side of a connection that the gateway accepted from `peer`.
    pub(crate) fn source(&self, peer: SocketAddr) -> Source {
        self.bridge.source(peer)
    }

    /// Keeps a link until what is returned is dropped.
    pub(crate) fn link(&self, target: Target) -> HubLink {
        let parts = LinkParts {
            context: self.context.clone(),
            admission: self.admission.clone(),
            connector: self.connector.clone(),
            bridge: self.bridge.clone(),
        };
        HubLink::start(target, parts)
    }

    /// These are the links that are kept now, for those who look at them.
    pub(crate) fn show(&self, links: &[HubLink]) {
        let links = links.iter();
        let states = links.map(|link| (link.target.clone(), link.state.clone()));
        self.own.store(Arc::new(states.collect()));
    }
}

/// Whose links a process takes.
fn ends_of(site: &ProxyPart) -> BTreeSet<LinkEnd> {
    let relayed = site.relays.iter();
    let sites = relayed.filter_map(|name| LinkEnd::site(name, site));
    let nodes = site.node_services.keys().chain(site.exits.keys());
    let nodes = nodes.cloned().map(LinkEnd::Node);
    sites.chain(nodes).collect()
}
