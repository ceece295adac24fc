//! The nodes of the site, the server that they join, and what is on which.

use std::collections::BTreeMap;

use renkei_spiffe::{SpiffeId, TrustDomain};

use super::{
    context::Context,
    fields::{Entry, Fields, Reader, Wrong, no_later_keys, required},
    frame::{self, WrittenGateway},
    values,
};
use crate::{ApiServer, Gateway, Item, NodeSpec, Service, nodes::NODE_PATH, schema::keys, suggest};

const EXAMPLE: &str = "{store: {}}";
const SERVER: &str = "{listen: 0.0.0.0:8081, advertise: server.osaka.example:8081}";

/// What the file says of nodes, as far as it could be read.
#[derive(Default)]
pub(super) struct Nodes {
    pub(super) server: Option<ApiServer>,
    pub(super) specs: BTreeMap<String, NodeSpec>,
    /// One of them is a gateway, though that may be at fault.
    pub(super) have_gateway: bool,
}

pub(super) fn read(reader: &mut Reader, fields: &Fields<'_>, own: Option<&TrustDomain>) -> Nodes {
    let written = fields.get("server");
    let mut nodes = Nodes {
        server: written.and_then(|of| server(reader, of)),
        ..Nodes::default()
    };
    let Some(of) = fields.get("nodes") else {
        return nodes;
    };
    let entries = reader.entries(of, EXAMPLE);
    if written.is_none() && !entries.is_empty() {
        reader.fault(
            of.place,
            "`nodes` need a `server`: they join the site there",
            format!("add `server: {SERVER}`"),
        );
    }
    for entry in entries {
        reader.remember(Item::Node(entry.key.to_owned()), entry.place);
        let fields = reader.fields(entry, keys::NODE, "{}", no_later_keys);
        let gateway = fields.get("gateway");
        nodes.have_gateway |= gateway.is_some();
        let gateway = gateway.and_then(|of| node_gateway(reader, entry.key, of));
        let via_gateway = via(reader, &fields);
        if let Err(wrong) = values::node_name(entry.key) {
            reader.wrong(entry.place, wrong);
            continue;
        }
        let path = format!("{NODE_PATH}{}", entry.key);
        let id = own.and_then(|own| SpiffeId::with_path(own.clone(), &path).ok());
        nodes.specs.extend(id.map(|id| {
            let name = entry.key.to_owned();
            let spec = NodeSpec {
                name: name.clone(),
                id,
                gateway,
                via_gateway,
            };
            (name, spec)
        }));
    }
    nodes
}

fn via(reader: &mut Reader, fields: &Fields<'_>) -> bool {
    let Some(entry) = fields.get("via") else {
        return false;
    };
    if fields.get("gateway").is_some() {
        reader.fault(
            entry.place,
            "a node with a `gateway` has no `via`: it dials other sites itself",
            "remove `via` or `gateway`",
        );
    }
    let read = |text: &str| match text {
        "gateway" => Ok(()),
        other => Err(Wrong::new(
            format!("{other:?} is not a way out of the site"),
            "write `via: gateway`",
        )),
    };
    reader.field(entry, "gateway", read).is_some()
}

fn server(reader: &mut Reader, of: Entry<'_>) -> Option<ApiServer> {
    let fields = reader.fields(of, keys::SERVER, SERVER, no_later_keys);
    if let Some(entry) = fields.get("listen") {
        reader.remember(Item::ServerListen, entry.value.place);
    }
    let listen = required(reader, &fields, "listen", "0.0.0.0:8081", values::listen);
    let dialled = ("nodes", "server.osaka.example");
    let advertise = frame::advertise(reader, &fields, listen, dialled);
    Some(ApiServer {
        listen: listen?,
        advertise: advertise?,
    })
}

fn node_gateway(reader: &mut Reader, node: &str, of: Entry<'_>) -> Option<Gateway> {
    let example = "{listen: 0.0.0.0:8443, advertise: gw.osaka.example:8443}";
    let fields = reader.fields(of, keys::NODE_GATEWAY, example, no_later_keys);
    if let Some(entry) = fields.get("listen") {
        reader.remember(Item::NodeGatewayListen(node.to_owned()), entry.value.place);
    }
    let max_lanes = frame::max_lanes(reader, &fields);
    let bandwidth = frame::bandwidth(reader, &fields);
    let listen = required(reader, &fields, "listen", "0.0.0.0:8443", values::listen);
    let dialled = ("other sites", "gw.osaka.example");
    let advertise = frame::advertise(reader, &fields, listen, dialled);
    Some(Gateway {
        listen: Some(listen?),
        advertise: Some(advertise?),
        via: None,
        max_lanes,
        bandwidth,
    })
}

/// The nodes that `on` names.
pub(super) fn on(reader: &mut Reader, fields: &Fields<'_>, context: &Context<'_>) -> Vec<String> {
    let Some(entry) = fields.get("on") else {
        return Vec::new();
    };
    let before = reader.faults.len();
    let mut on: Vec<String> = Vec::new();
    for node in reader.items(entry, "store") {
        let name = reader.scalar(node, "a node", "store", |text| Ok(text.to_owned()));
        let Some(name) = name else { continue };
        if !context.nodes.contains(&*name) {
            let hint = match suggest::nearest(&name, context.nodes.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("add `{name}: {{}}` to `nodes`"),
            };
            reader.fault(node.place, format!("this site has no node `{name}`"), hint);
        } else if on.contains(&name) {
            let message = format!("{name} is listed twice");
            reader.fault(node.place, message, "remove one of the two");
        } else {
            on.push(name);
        }
    }
    if on.is_empty() && reader.faults.len() == before {
        reader.fault(
            entry.place,
            "`on` names no node",
            "name a node, or remove `on`",
        );
    }
    on
}

/// Nodes reach the gateways that they need, in both directions.
pub(super) fn have_routes(
    reader: &mut Reader,
    nodes: &Nodes,
    services: &BTreeMap<String, Service>,
    gateway: Option<&WrittenGateway>,
) {
    can_leave(reader, nodes, gateway);
    can_be_reached(reader, services, gateway);
}

/// What has `via: gateway` needs a gateway that it can dial.
fn can_leave(reader: &mut Reader, nodes: &Nodes, gateway: Option<&WrittenGateway>) {
    if nodes.have_gateway || gateway.is_some_and(|gateway| gateway.via.is_none()) {
        return;
    }
    for node in nodes.specs.values().filter(|node| node.via_gateway) {
        let Some(place) = reader.places.get(&Item::Node(node.name.clone())).copied() else {
            continue;
        };
        let message = format!(
            "`{}` has `via: gateway`, and can dial no gateway here",
            node.name
        );
        reader.fault(
            place,
            message,
            "add a node with a `gateway`, or remove `via`",
        );
    }
}

/// A node links itself with the gateways that lead to its services, so it must be able to dial
/// them.
fn can_be_reached(
    reader: &mut Reader,
    services: &BTreeMap<String, Service>,
    gateway: Option<&WrittenGateway>,
) {
    if gateway.is_none_or(|gateway| gateway.via.is_none()) {
        return;
    }
    for service in services.values().filter(|service| !service.on.is_empty()) {
        let item = Item::Service(service.name.clone());
        let Some(place) = reader.places.get(&item).copied() else {
            continue;
        };
        let message = format!(
            "`{}` is on a node, which cannot dial a `gateway` with `via`",
            service.name
        );
        reader.fault(
            place,
            message,
            "remove `on`, or `via` if other sites can dial this one",
        );
    }
}
