//! Sites that accept no connections, reached through a hub.
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

mod forward;
mod link;
mod link_handshake;
mod link_state;
mod loopback_bridge;
mod relays;
mod status;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use arc_swap::ArcSwapOption;
use renkei_spiffe::{BundleSet, TrustDomain};

use crate::{
    admission::{Admission, Source},
    context::Context,
    identity::Withdrawn,
    trunk::{Acceptor, Connector},
};

use link::LinkParts;
use loopback_bridge::LoopbackBridge;
use relays::Relays;

pub(crate) use link::{HubLink, Target};
pub(crate) use link_state::LinkState;
pub(crate) use status::{HubMetrics, hub_status};

/// The link between a hub and a site that only dials out.
pub(crate) const ALPN_RELAY: [&[u8]; 2] = [b"renkei-relay/1.1", b"renkei-relay/1"];

/// This site as a hub, and as a site that is reached through one.
#[derive(Debug)]
pub(crate) struct Hub {
    context: Arc<Context>,
    admission: Arc<Admission>,
    connector: Arc<Connector>,
    acceptor: Arc<Acceptor>,
    relays: Relays,
    bridge: Arc<LoopbackBridge>,
    /// The link to this site's own hub, if it has one.
    link: ArcSwapOption<LinkState>,
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
            relays: Relays::default(),
            bridge: Arc::default(),
            link: ArcSwapOption::empty(),
        })
    }

    /// Relays for these sites from now on, and for no others.
    pub(crate) fn relay_for(&self, sites: &BTreeSet<TrustDomain>) {
        self.relays.follow(sites);
    }

    /// Ends the links of sites whose bundles are not known any more.
    pub(crate) fn follow_bundles(&self, bundles: &BundleSet, withdrawn: &Withdrawn) {
        self.relays.follow_bundles(bundles, withdrawn);
    }

    /// The address that this site's gateway is bound to, for what comes through its hub.
    pub(crate) fn set_gateway(&self, gateway: Option<SocketAddr>) {
        self.bridge.set_gateway(gateway);
    }

    /// The far side of a connection that the gateway accepted from `peer`.
    pub(crate) fn source(&self, peer: SocketAddr) -> Source {
        self.bridge.source(peer)
    }

    /// Keeps a link to the site's own hub, until what is returned is dropped.
    pub(crate) fn link(&self, target: Option<Target>) -> Option<HubLink> {
        let parts = || LinkParts {
            context: self.context.clone(),
            admission: self.admission.clone(),
            connector: self.connector.clone(),
            bridge: self.bridge.clone(),
        };
        let link = target.map(|target| HubLink::start(target, parts()));
        self.link
            .store(link.as_ref().map(|link| link.state.clone()));
        link
    }
}
