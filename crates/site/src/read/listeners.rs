//! No address is listened on twice.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::fields::Reader;
use crate::{BundleEndpoint, Item, Place, Workload};

struct Listener {
    what: String,
    address: SocketAddr,
    place: Place,
}

/// The listeners of the site itself, as far as they could be read.
type Shared<'a> = (
    Option<SocketAddr>,
    Option<&'a BundleEndpoint>,
    Option<SocketAddr>,
);

/// Every listener of the file that cannot be opened beside an earlier one becomes a fault.
pub(super) fn no_two_alike(
    reader: &mut Reader,
    shared: Shared<'_>,
    workloads: &BTreeMap<String, Workload>,
) {
    let all = shared_listeners(shared)
        .into_iter()
        .chain(use_listeners(workloads));
    let listeners = all.filter_map(|(what, address, item)| {
        let place = *reader.places.get(&item)?;
        Some(Listener {
            what,
            address,
            place,
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

fn shared_listeners(
    (gateway, bundle_endpoint, admin): Shared<'_>,
) -> Vec<(String, SocketAddr, Item)> {
    let bundle_endpoint = bundle_endpoint.map(|endpoint| endpoint.listen);
    [
        ("the gateway", gateway, Item::GatewayListen),
        (
            "the bundle endpoint",
            bundle_endpoint,
            Item::BundleEndpointListen,
        ),
        ("`admin`", admin, Item::Admin),
    ]
    .into_iter()
    .filter_map(|(what, address, item)| Some((what.to_owned(), address?, item)))
    .collect()
}

fn use_listeners(
    workloads: &BTreeMap<String, Workload>,
) -> impl Iterator<Item = (String, SocketAddr, Item)> {
    workloads.values().flat_map(|workload| {
        workload.uses.iter().map(|used| {
            let what = format!("{} for {}", workload.name, used.target.short());
            (
                what,
                used.listen,
                Item::Use(workload.name.clone(), used.target.clone()),
            )
        })
    })
}

/// Reports each listener of one port against the first that it collides with.
fn report(reader: &mut Reader, group: &[Listener]) {
    for (index, listener) in group.iter().enumerate() {
        let earlier = group.iter().take(index);
        let taken = earlier
            .into_iter()
            .find(|other| collide(other.address.ip(), listener.address.ip()));
        if let Some(other) = taken {
            let message = format!(
                "{} is already used by {} in line {}",
                listener.address, other.what, other.place.line
            );
            reader.fault(listener.place, message, "give each listener its own port");
        }
    }
}

/// Whether two listeners on one port exclude each other. `[::]` takes IPv4 too.
fn collide(one: IpAddr, other: IpAddr) -> bool {
    let covers = |any: IpAddr, ip: IpAddr| any.is_unspecified() && (any.is_ipv6() || ip.is_ipv4());
    one == other || covers(one, other) || covers(other, one)
}
