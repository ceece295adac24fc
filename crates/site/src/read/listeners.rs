//! No address is listened on twice.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{fields::Reader, nodes::Nodes};
use crate::{BundleEndpoint, Item, Place, Placement, Workload};

struct Listener {
    what: String,
    address: SocketAddr,
    place: Place,
    on: Placement,
}

/// What a listener is for, its address, where it is in the file, and which processes open it.
type Written = (String, SocketAddr, Item, Placement);

/// The listeners of the process of `renkei up`, as far as they could be read.
type Shared<'a> = (
    Option<SocketAddr>,
    Option<&'a BundleEndpoint>,
    Option<SocketAddr>,
);

/// Every listener of the file that an earlier one keeps from being opened becomes a fault.
pub(super) fn no_two_alike(
    reader: &mut Reader,
    shared: Shared<'_>,
    nodes: &Nodes,
    workloads: &BTreeMap<String, Workload>,
) {
    let all = shared_listeners(shared, nodes)
        .into_iter()
        .chain(node_listeners(nodes))
        .chain(use_listeners(workloads));
    let listeners = all.filter_map(|(what, address, item, on)| {
        let place = *reader.places.get(&item)?;
        Some(Listener {
            what,
            address,
            place,
            on,
        })
    });
    let mut by_port: BTreeMap<u16, Vec<Listener>> = BTreeMap::new();
    for listener in listeners {
        by_port
            .entry(listener.address.port())
            .or_default()
            .push(listener);
    }
    for group in by_port.values_mut() {
        group.sort_by_key(|listener| listener.place.offset);
        report(reader, group);
    }
}

fn shared_listeners((gateway, bundle_endpoint, admin): Shared<'_>, nodes: &Nodes) -> Vec<Written> {
    let bundle_endpoint = bundle_endpoint.map(|endpoint| endpoint.listen);
    let server = nodes.server.as_ref().map(|server| server.listen);
    [
        ("the gateway", gateway, Item::GatewayListen),
        ("the server", server, Item::ServerListen),
        (
            "the bundle endpoint",
            bundle_endpoint,
            Item::BundleEndpointListen,
        ),
        ("`admin`", admin, Item::Admin),
    ]
    .into_iter()
    .filter_map(|(what, address, item)| Some((what.to_owned(), address?, item, Placement::Server)))
    .collect()
}

fn node_listeners(nodes: &Nodes) -> impl Iterator<Item = Written> {
    nodes.specs.values().filter_map(|node| {
        let address = node.gateway.as_ref()?.listen?;
        let name = &node.name;
        let on = Placement::Nodes([name.clone()].into());
        let item = Item::NodeGatewayListen(name.clone());
        Some((format!("the gateway of {name}"), address, item, on))
    })
}

fn use_listeners(workloads: &BTreeMap<String, Workload>) -> impl Iterator<Item = Written> {
    workloads.values().flat_map(|workload| {
        workload.uses.iter().map(|used| {
            let what = format!("{} for {}", workload.name, used.target.short());
            let item = Item::Use(workload.name.clone(), used.target.clone());
            (what, used.listen, item, workload.placement())
        })
    })
}

/// Reports each listener of one port against the first that it collides with.
fn report(reader: &mut Reader, group: &[Listener]) {
    for (index, listener) in group.iter().enumerate() {
        let earlier = group.iter().take(index);
        let taken = earlier.into_iter().find(|other| collide(other, listener));
        if let Some(other) = taken {
            let message = format!(
                "{} is already used by {} in line {}",
                listener.address, other.what, other.place.line
            );
            reader.fault(listener.place, message, "give each listener its own port");
        }
    }
}

/// Whether two listeners on one port exclude each other where both are opened. `[::]` takes IPv4
/// too.
fn collide(one: &Listener, other: &Listener) -> bool {
    let covers = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    let (ip, other_ip) = (one.address.ip(), other.address.ip());
    one.on.meets(&other.on) && (ip == other_ip || covers(ip, other_ip) || covers(other_ip, ip))
}
