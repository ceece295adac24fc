//! Sites that accept no connections, and the hubs through which they are reached.

use std::collections::{BTreeMap, BTreeSet};

use renkei_spiffe::TrustDomain;

use super::{
    fields::{Entry, Reader},
    frame::Frame,
    peers::Known,
    values,
};
use crate::{Gateway, Item, Peer, Place, node::Node};

const EXAMPLE: &str = "osaka.example";

/// Whom this site relays for. They count as peers with a gateway: this site's own.
pub(super) fn relays(
    reader: &mut Reader,
    of: Option<Entry<'_>>,
    frame: &Frame,
    peers: &BTreeMap<TrustDomain, Peer>,
    known: &mut Known,
) -> BTreeSet<TrustDomain> {
    let mut relays = BTreeSet::new();
    let Some(of) = of else { return relays };
    let items = reader.items(of, EXAMPLE);
    if !items.is_empty() {
        can_relay(reader, of.place, frame);
    }
    for item in items {
        let Some(name) = relayed(reader, item, frame, peers, known) else {
            continue;
        };
        if let Some(reachable) = known.has_gateway.get_mut(&name) {
            *reachable = true;
        }
        reader
            .places
            .entry(Item::Relay(name.clone()))
            .or_insert(item.place);
        if !relays.insert(name.clone()) {
            let message = format!("{name} is written twice");
            reader.fault(item.place, message, "remove one of the two");
        }
    }
    relays
}

/// Callers of a relayed site come to this site's gateway, so there must be one that they can dial.
fn can_relay(reader: &mut Reader, place: Place, frame: &Frame) {
    let gateway = frame.gateway.as_ref();
    if gateway.is_some_and(|written| written.via.is_some()) {
        reader.fault(
            place,
            "a site that is reached via a hub cannot relay for others",
            "remove `relays`, or `via` under `gateway`",
        );
    } else if !frame.has_gateway {
        reader.fault(
            place,
            "`relays` need a `gateway`: callers of relayed sites come to it",
            "add `gateway: {listen: 0.0.0.0:8443, advertise: gw.hokkaido.example:8443}`",
        );
    }
}

fn relayed(
    reader: &mut Reader,
    item: &Node,
    frame: &Frame,
    peers: &BTreeMap<TrustDomain, Peer>,
    known: &Known,
) -> Option<TrustDomain> {
    let name = reader.scalar(item, "a relayed site", EXAMPLE, values::trust_domain)?;
    if frame.trust_domain.as_ref() == Some(&name) {
        let message = format!("{name} is this site's own trust domain");
        reader.fault(
            item.place,
            message,
            "name the sites that others reach through this one",
        );
        return None;
    }
    if !known.contains(&name) {
        no_peer(reader, item.place, &name, known);
        return None;
    }
    if peers.get(&name).is_some_and(|peer| peer.gateway.is_some()) {
        let message = format!("{name} has a `gateway` under `peers`, so it needs no relay");
        let hint = "remove that `gateway`: a relayed site is reached through this site's own";
        reader.fault(item.place, message, hint);
    }
    Some(name)
}

fn no_peer(reader: &mut Reader, place: Place, name: &TrustDomain, known: &Known) {
    let hint = match known.nearest(name) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add `{name}: {{gateway: HOST:PORT, identity: IDENTITY}}` to `peers`"),
    };
    reader.fault(place, format!("{name} is not a peer"), hint);
}

/// The gateway as roles follow it. A hub must be known here, with the address of its gateway.
pub(super) fn gateway(
    reader: &mut Reader,
    frame: &Frame,
    peers: &BTreeMap<TrustDomain, Peer>,
    known: &Known,
) -> Option<Gateway> {
    let written = frame.gateway.as_ref()?;
    if let Some((name, place)) = &written.via {
        if !known.contains(name) || frame.trust_domain.as_ref() == Some(name) {
            no_peer(reader, *place, name, known);
        } else if peers.get(name).is_some_and(|hub| hub.gateway.is_none()) {
            let message = format!("{name} has no gateway here, so it cannot be the hub");
            let hint = format!("add `gateway: HOST:PORT` to `{name}` in `peers`");
            reader.fault(*place, message, hint);
        }
    }
    Some(Gateway {
        listen: written.listen,
        advertise: written.advertise.clone(),
        via: written.via.as_ref().map(|(name, _)| name.clone()),
        max_lanes: written.max_lanes,
        bandwidth: written.bandwidth,
    })
}
