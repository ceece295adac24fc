//! From the tree of a site file to a [`Site`], or to all of its faults.
//!
//! Each part of the file is read as far as it can be; a part with a fault is left out of the
//! site, which then never leaves this module. Faults that only follow from another fault are not
//! reported: with the trust domain at fault, it is unknown which identities are foreign.

mod caller_table;
mod context;
mod federation;
mod fields;
mod frame;
mod hub;
mod identities;
mod listeners;
mod methods;
mod nodes;
mod peers;
mod services;
mod topics;
mod tree;
pub(crate) mod values;
mod workloads;

use renkei_spiffe::{SpiffeId, TrustDomain};

use self::{context::Context, tree::without_mark};
use crate::{
    Faults, Place, Site,
    node::{Node, Value},
    place::SourceMap,
    schema::keys,
    site::SERVER_PATH,
};

pub(crate) use self::{
    fields::{Entry, Fields, Reader, Wrong, no_later_keys, required},
    tree::tree,
};

/// Parses, checks and resolves a site file.
pub(crate) fn read(name: &str, text: &str) -> Result<Site, Faults> {
    let (root, mut reader) = tree(name, text, "site file")?;
    if let Err(wrong) = is_mapping(&root) {
        reader.wrong(Place::START, wrong);
        return Err(reader.faults);
    }
    // A byte order mark would shift every place.
    read_root(&root, reader, name, without_mark(text))
}

fn read_root(root: &Node, mut reader: Reader, name: &str, text: &str) -> Result<Site, Faults> {
    let of = Entry {
        key: "the site file",
        place: Place::START,
        value: root,
    };
    let fields = reader.fields(of, keys::SITE, "", no_later_keys);
    let frame = frame::read(&mut reader, &fields);
    let own = frame.trust_domain.as_ref();
    let (peers, mut known) = peers::read(&mut reader, fields.get("peers"), own);
    known.incomplete |= fields.get("federation").is_some();
    let federation = federation::read(&mut reader, &fields, own, &peers);
    let nodes = nodes::read(&mut reader, &fields, own);
    let relays = fields.get("relays");
    let relays = hub::relays(&mut reader, relays, &frame, &peers, &mut known);
    let gateway = hub::gateway(&mut reader, &frame, &peers, &known);
    let (offered, running) = (fields.get("services"), fields.get("workloads"));
    let context = Context::read(frame.trust_domain, known, &fields);
    let services = services::read(&mut reader, offered, &context);
    let has_gateway = frame.has_gateway || nodes.have_gateway;
    services::need_gateway(&mut reader, offered, has_gateway);
    nodes::have_routes(&mut reader, &nodes, &services, frame.gateway.as_ref());
    let workloads = workloads::read(&mut reader, running, &context);
    identities::no_two_alike(&mut reader, &services, &workloads);
    let bundle_endpoint = frame.bundle_endpoint;
    let listen = frame.gateway.as_ref().and_then(|written| written.listen);
    let shared = (listen, bundle_endpoint.as_ref(), frame.admin);
    listeners::no_two_alike(&mut reader, shared, &nodes, &workloads);

    let server_id = context.own.as_ref().and_then(server_id);
    let (Some(site_name), Some(trust_domain), Some(server_id), true) = (
        frame.site_name,
        context.own,
        server_id,
        reader.faults.is_empty(),
    ) else {
        return Err(reader.faults);
    };
    Ok(Site {
        name: site_name,
        trust_domain,
        server_id,
        gateway,
        server: nodes.server,
        nodes: nodes.specs,
        bundle_endpoint,
        peers,
        federation,
        relays,
        services,
        workloads,
        lifetimes: frame.lifetimes,
        workload_api: frame.workload_api,
        admin: frame.admin,
        source: source(reader, name, text),
    })
}

fn source(reader: Reader, name: &str, text: &str) -> SourceMap {
    SourceMap {
        name: name.into(),
        text: text.into(),
        places: reader.places,
    }
}

fn is_mapping(root: &Node) -> Result<(), Wrong> {
    let message = match &root.value {
        Value::Map(_) => return Ok(()),
        Value::Null => "the site file is empty".to_owned(),
        other => format!("a site file is a mapping, not {}", other.kind()),
    };
    Err(Wrong::new(
        message,
        "begin with `site: NAME` and `trust_domain: NAME`",
    ))
}

/// The identity of a trust domain's own server. Any trust domain that is a DNS name has one.
fn server_id(trust_domain: &TrustDomain) -> Option<SpiffeId> {
    SpiffeId::with_path(trust_domain.clone(), SERVER_PATH).ok()
}
