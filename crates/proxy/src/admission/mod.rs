//! How many connections there may be at once, and who may have how many of them.
//!
//! Each kind of connection has its own pool of places. In a pool an address, a caller, a site or a
//! service has a share that shrinks as the pool fills ([`renkei_runtime::shares`]), so that none
//! of them keeps the others out. A connection of a stranger that finds no place is closed; one of
//! a local workload waits, which delays only its own workload and service.

mod holder;
mod source;

use renkei_runtime::shares::{self, Pool};
use renkei_site::HostPort;
use renkei_spiffe::{SpiffeId, TrustDomain};

use crate::{config::ProxyLimits, identity::Pair};

use holder::Holder;

pub(crate) use holder::Denied;
pub(crate) use source::Source;

/// A place, given back when it is dropped.
pub(crate) type Place = shares::Place<Holder>;

/// A connection in its handshake.
#[derive(Debug)]
pub(crate) struct HandshakePlace {
    turn: Place,
    arrival: Place,
}

impl HandshakePlace {
    /// The handshake is over, and the next one may begin. What is left is the place among those
    /// that have not proved who they are, for as long as a refused peer reads its alert.
    pub(crate) fn finish(self) -> Place {
        drop(self.turn);
        self.arrival
    }
}

/// The places of a proxy.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Connections to the gateway that have not proved who they are.
    arrivals: Pool<Holder>,
    /// Those of them that are in their handshake.
    handshakes: Pool<Holder>,
    /// Lanes of trunks and links that others have dialled.
    lanes: Pool<Holder>,
    /// Connections and streams to services of this site.
    inbound: Pool<Holder>,
    /// Connections to the bundle endpoint.
    readers: Pool<Holder>,
    /// Connections that are forwarded by links.
    relayed: Pool<Holder>,
    /// Connections that links bring.
    brought: Pool<Holder>,
    /// Connections of local workloads.
    outbound: Pool<Holder>,
    /// Connections being opened to other sites.
    dials: Pool<Holder>,
}

impl Admission {
    pub(crate) fn new(limits: &ProxyLimits) -> Self {
        let all = limits.connections;
        Self {
            arrivals: Pool::new(all.div_ceil(2)),
            handshakes: Pool::new(limits.handshakes),
            lanes: Pool::new(all.div_ceil(2)),
            inbound: Pool::new(all),
            readers: Pool::new(all.div_ceil(8)),
            relayed: Pool::new(all),
            brought: Pool::new(all),
            outbound: Pool::new(all),
            dials: Pool::new(limits.dials),
        }
    }

    /// A place for a connection that the gateway has accepted.
    pub(crate) fn arrival(&self, source: &Source) -> Result<Place, Denied> {
        take(&self.arrivals, Holder::of_source(source))
    }

    /// Waits until the connection may do its handshake.
    pub(crate) async fn handshake(&self, source: &Source, arrival: Place) -> HandshakePlace {
        let turn = self.handshakes.take(Holder::of_source(source)).await;
        HandshakePlace { turn, arrival }
    }

    /// A place for a lane, or for a connection of a link.
    pub(crate) fn lane(&self, pair: &Pair) -> Result<Place, Denied> {
        take(&self.lanes, Holder::of_remote_pair(pair))
    }

    /// A place for a connection or stream from another site to a service.
    pub(crate) fn inbound(&self, pair: &Pair) -> Result<Place, Denied> {
        take(&self.inbound, Holder::of_remote_pair(pair))
    }

    /// A place for a reader of the bundle endpoint.
    pub(crate) fn reader(&self, source: &Source) -> Result<Place, Denied> {
        take(&self.readers, Holder::of_source(source))
    }

    /// A place for a connection that is forwarded to a site behind this hub.
    pub(crate) fn relayed(&self, source: &Source, site: &TrustDomain) -> Result<Place, Denied> {
        let mut holders = Holder::of_source(source);
        holders.push(Holder::Site(site.clone()));
        take(&self.relayed, holders)
    }

    /// A place for a connection of a node to another site.
    pub(crate) fn leaving(&self, node: &SpiffeId, site: &TrustDomain) -> Result<Place, Denied> {
        let holders = vec![Holder::Node(node.clone()), Holder::Site(site.clone())];
        take(&self.relayed, holders)
    }

    /// A place for a connection that is forwarded to a node behind this gateway.
    pub(crate) fn to_node(&self, source: &Source, node: &SpiffeId) -> Result<Place, Denied> {
        let mut holders = Holder::of_source(source);
        holders.push(Holder::Node(node.clone()));
        take(&self.relayed, holders)
    }

    /// A place for a connection that this site's hub brings.
    pub(crate) fn brought(&self, source: &Source) -> Result<Place, Denied> {
        take(&self.brought, Holder::of_source(source))
    }

    /// Waits for a place for a connection of a local workload.
    pub(crate) async fn outbound(&self, pair: &Pair) -> Place {
        self.outbound.take(Holder::of_local_pair(pair)).await
    }

    /// Waits for a place to dial a gateway of another site.
    pub(crate) async fn dial(&self, pair: &Pair, gateway: &HostPort) -> Place {
        let mut holders = Holder::of_local_pair(pair);
        holders.push(Holder::Gateway(gateway.clone()));
        self.dials.take(holders).await
    }

    /// The pools by name, with the places that are taken and all that there are.
    pub(crate) fn usage(&self) -> [(&'static str, (usize, usize)); 9] {
        [
            ("arrivals", self.arrivals.usage()),
            ("handshakes", self.handshakes.usage()),
            ("lanes", self.lanes.usage()),
            ("inbound", self.inbound.usage()),
            ("readers", self.readers.usage()),
            ("relayed", self.relayed.usage()),
            ("brought", self.brought.usage()),
            ("outbound", self.outbound.usage()),
            ("dials", self.dials.usage()),
        ]
    }
}

fn take(pool: &Pool<Holder>, holders: Vec<Holder>) -> Result<Place, Denied> {
    pool.try_take(holders).map_err(|why| Denied::of(&why))
}

/// Connections of one link, by the addresses of their callers: the hub's end, where all of them
/// share the streams that the site takes.
#[derive(Debug)]
pub(crate) struct LinkPlaces(Pool<Holder>);

impl LinkPlaces {
    /// A link that takes so many connections.
    pub(crate) fn new(connections: usize) -> Self {
        Self(Pool::new(connections))
    }

    /// The link takes so many connections from now on.
    pub(crate) fn resize(&self, connections: usize) {
        self.0.resize(connections);
    }

    pub(crate) fn take(&self, source: &Source) -> Result<Place, Denied> {
        take(&self.0, Holder::of_source(source))
    }
}

#[cfg(test)]
mod tests;
