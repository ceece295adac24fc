//! How many connections the API has at once, and who may have how many of them.
//!
//! A client has a place among the strangers until it has proved that it is a node of this site;
//! then it has one among the nodes. So nodes find a place however many strangers come.

use renkei_runtime::{
    memory,
    shares::{self, Network, NoPlace, Pool},
};
use renkei_spiffe::SpiffeId;

/// Connections of strangers, and as many of nodes, unless the process may have few open files.
const CONNECTIONS: u64 = 8_192;
const FEWEST: u64 = 8;
/// Each of the two takes one of so many files that the process may have open.
const FILES: u64 = 32;
/// Readers of the bundle endpoint at once, of all gateways.
const READERS: usize = 256;

/// Whom a place is counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    /// The host that a stranger comes from.
    Network(Network),
    /// The /48 of IPv6 that it is in.
    Customer(Network),
    /// A node.
    Node(SpiffeId),
}

impl shares::Holder for Holder {
    fn weight(&self) -> usize {
        match self {
            Self::Network(_) | Self::Node(_) => 1,
            Self::Customer(_) => 3,
        }
    }
}

pub(super) type Place = shares::Place<Holder>;

/// The places of the API.
#[derive(Debug, Clone)]
pub(super) struct Places {
    strangers: Pool<Holder>,
    nodes: Pool<Holder>,
    readers: Pool<Holder>,
}

impl Places {
    /// As many as the process may have files open for.
    pub(super) fn new() -> Self {
        Self::for_files(memory::open_files())
    }

    fn for_files(files: u64) -> Self {
        let each = (files / FILES).clamp(FEWEST, CONNECTIONS);
        let each = usize::try_from(each).unwrap_or(usize::MAX);
        Self {
            strangers: Pool::new(each),
            nodes: Pool::new(each),
            readers: Pool::new(READERS),
        }
    }

    /// A place for a connection that has just come.
    pub(super) fn stranger(&self, network: Network) -> Result<Place, NoPlace<Holder>> {
        let mut holders = vec![Holder::Network(network)];
        holders.extend(network.customer().map(Holder::Customer));
        self.strangers.try_take(holders)
    }

    /// A place for the connection of a node.
    pub(super) fn node(&self, id: &SpiffeId) -> Result<Place, NoPlace<Holder>> {
        self.nodes.try_take(vec![Holder::Node(id.clone())])
    }

    /// A place for a reader of the bundle endpoint that this node brings.
    pub(super) fn reader(&self, node: &SpiffeId) -> Result<Place, NoPlace<Holder>> {
        self.readers.try_take(vec![Holder::Node(node.clone())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://osaka.example/renkei/node/{name}")).unwrap()
    }

    /// Connections that an address gets, one after the other.
    fn taken(places: &Places, address: &str, held: &mut Vec<Place>) -> usize {
        let network = Network::of(address.parse().unwrap());
        let before = held.len();
        while let Ok(place) = places.stranger(network) {
            held.push(place);
        }
        held.len() - before
    }

    #[test]
    fn strangers_leave_the_nodes_their_places_and_the_process_its_files() {
        let places = Places::for_files(1_024);
        let mut held = Vec::new();
        assert_eq!(taken(&places, "192.0.2.1", &mut held), 16, "half of 32");
        for host in 2..100 {
            taken(&places, &format!("192.0.2.{host}"), &mut held);
        }
        assert_eq!(held.len(), 32, "of 1,024 files");
        assert!(places.node(&node("store")).is_ok());
    }

    #[test]
    fn one_network_of_ipv6_does_not_keep_the_others_out() {
        let places = Places::for_files(1_024);
        let mut held = Vec::new();
        for subnet in 0..200 {
            taken(&places, &format!("2001:db8:1:{subnet:x}::1"), &mut held);
        }
        assert!(
            places
                .stranger(Network::of("2001:db8:2::1".parse().unwrap()))
                .is_ok()
        );
    }

    #[test]
    fn a_gateway_with_many_readers_leaves_places_for_another() {
        let places = Places::for_files(1_024);
        let readers = || places.reader(&node("gw1")).ok();
        let held: Vec<Place> = std::iter::from_fn(readers).collect();
        assert_eq!(held.len(), READERS / 2);
        assert!(places.reader(&node("gw2")).is_ok());
    }
}
