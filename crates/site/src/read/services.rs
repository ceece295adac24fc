//! What the site offers.

use std::{collections::BTreeMap, time::Duration};

use renkei_spiffe::SpiffeId;

use super::{
    context::{Context, linked_identity, own_id},
    fields::{Entry, Fields, Reader, Wrong},
    methods, nodes, topics, values,
};
use crate::{
    BackendAddress, Bandwidth, Item, Protocol, Service, node::Value, schema::keys, sni, suggest,
};

const EXAMPLE: &str = "{broker: {backends: [127.0.0.1:9092], allow: [osaka.example/collector]}}";

pub(super) fn read(
    reader: &mut Reader,
    of: Option<Entry<'_>>,
    context: &Context<'_>,
) -> BTreeMap<String, Service> {
    let mut services = BTreeMap::new();
    let Some(of) = of else { return services };
    for entry in reader.entries(of, EXAMPLE) {
        let example = "{backends: [127.0.0.1:9092]}";
        let fields = reader.fields(entry, keys::SERVICE, example, |_| None);
        let id = service_id(reader, entry, &fields, context);
        let service = service(reader, entry.key, id, &fields, context);
        services.extend(service.map(|service| (service.name.clone(), service)));
    }
    services
}

/// Callers of a service arrive at the gateway; without one the service is out of reach.
pub(super) fn need_gateway(reader: &mut Reader, of: Option<Entry<'_>>, has_gateway: bool) {
    let Some(of) = of else { return };
    let offers = matches!(&of.value.value, Value::Map(map) if !map.is_empty());
    if offers && !has_gateway {
        let hint = "add `gateway: {listen: 0.0.0.0:8443, advertise: gw.osaka.example:8443}`";
        reader.fault(
            of.place,
            "`services` need a `gateway`: callers reach them through it",
            hint,
        );
    }
}

fn service_id(
    reader: &mut Reader,
    of: Entry<'_>,
    fields: &Fields<'_>,
    context: &Context<'_>,
) -> Option<SpiffeId> {
    reader.remember(Item::Service(of.key.to_owned()), of.place);
    if let Err(wrong) = values::service_name(of.key) {
        reader.wrong(of.place, wrong);
        return None;
    }
    let id = own_id(reader, of, fields, context)?;
    match has_server_name(&id) {
        Ok(()) => Some(id),
        Err(wrong) => {
            reader.wrong(of.place, wrong);
            None
        }
    }
}

/// A service is asked for by a server name.
pub(super) fn has_server_name(id: &SpiffeId) -> Result<(), Wrong> {
    if sni(id).is_some() {
        return Ok(());
    }
    let message = format!("{} is too long for a server name", id.short());
    let hint = "shorten the name; both together have at most 253 bytes";
    Err(Wrong::new(message, hint))
}

fn service(
    reader: &mut Reader,
    name: &str,
    id: Option<SpiffeId>,
    fields: &Fields<'_>,
    context: &Context<'_>,
) -> Option<Service> {
    let on = nodes::on(reader, fields, context);
    let protocol = match fields.get("protocol") {
        Some(entry) => reader.field(entry, "kafka", protocol),
        None => Some(Protocol::default()),
    };
    let backends = backends(reader, fields, protocol);
    let allow = allow(reader, name, fields, context);
    let methods = methods::read(reader, fields, protocol, &allow, context);
    let topics = topics::read(reader, fields, protocol, &allow, context);
    let response_timeout = response_timeout(reader, fields, protocol);
    let bandwidth = limit(reader, fields, "bandwidth", "2 Gbit/s");
    let caller_bandwidth = limit(reader, fields, "caller_bandwidth", "200 Mbit/s");
    let policy = match fields.get("policy") {
        Some(entry) => {
            reader.remember(Item::Policy(name.to_owned()), entry.value.place);
            reader.field(entry, "broker.rego", values::path).map(Some)
        }
        None => Some(None),
    };
    let (id, protocol, policy) = (id?, protocol?, policy?);
    Some(Service {
        name: name.to_owned(),
        id,
        on,
        protocol,
        backends,
        allow,
        methods,
        topics,
        response_timeout,
        bandwidth,
        caller_bandwidth,
        policy,
    })
}

fn limit(reader: &mut Reader, fields: &Fields<'_>, key: &str, example: &str) -> Option<Bandwidth> {
    let entry = fields.get(key)?;
    reader.field(entry, example, values::bandwidth)
}

fn response_timeout(
    reader: &mut Reader,
    fields: &Fields<'_>,
    protocol: Option<Protocol>,
) -> Option<Duration> {
    let entry = fields.get("response_timeout")?;
    if let Some(protocol) = protocol.filter(|protocol| *protocol != Protocol::Http) {
        let message = format!(
            "`response_timeout` is for protocol http, and this service has protocol {}",
            protocol.as_str()
        );
        reader.fault(
            entry.place,
            message,
            "add `protocol: http`, or remove `response_timeout`",
        );
        return None;
    }
    let (least, most) = (Duration::from_secs(1), Duration::from_hours(24));
    reader.field(entry, "10m", |text| values::duration(text, least, most))
}

fn protocol(text: &str) -> Result<Protocol, Wrong> {
    match text {
        "tcp" => Ok(Protocol::Tcp),
        "kafka" => Ok(Protocol::Kafka),
        "http" => Ok(Protocol::Http),
        other => {
            let hint = match suggest::nearest(other, ["tcp", "http", "kafka"]) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "write tcp, http or kafka".to_owned(),
            };
            Err(Wrong::new(format!("unknown protocol {other:?}"), hint))
        }
    }
}

fn backends(
    reader: &mut Reader,
    fields: &Fields<'_>,
    protocol: Option<Protocol>,
) -> Vec<BackendAddress> {
    let example = "127.0.0.1:9092";
    let Some(entry) = fields.get("backends") else {
        reader.missing(fields, "backends", &format!("[{example}]"));
        return Vec::new();
    };
    let before = reader.faults.len();
    let mut backends: Vec<BackendAddress> = Vec::new();
    for node in reader.items(entry, example) {
        let Some(backend) = reader.scalar(node, "a backend", example, values::backend) else {
            continue;
        };
        if backends.contains(&backend) {
            reader.fault(
                node.place,
                format!("{backend} is listed twice"),
                "remove one of the two",
            );
        }
        // A cluster has several brokers, each with a host and a port by its own account.
        if protocol == Some(Protocol::Kafka) && backend.unix().is_some() {
            reader.fault(
                node.place,
                format!(
                    "{backend} is a unix socket, and brokers of Kafka are found by host and port"
                ),
                "write HOST:PORT, such as 127.0.0.1:9092, or remove `protocol: kafka`",
            );
        }
        backends.push(backend);
    }
    if backends.is_empty() && reader.faults.len() == before {
        let hint = format!("write `backends: [{example}]`");
        reader.fault(entry.place, "a service needs at least one backend", hint);
    }
    backends
}

fn allow(
    reader: &mut Reader,
    service: &str,
    fields: &Fields<'_>,
    context: &Context<'_>,
) -> Vec<SpiffeId> {
    let Some(entry) = fields.get("allow") else {
        return Vec::new();
    };
    let mut allow: Vec<SpiffeId> = Vec::new();
    for node in reader.items(entry, "osaka.example/collector") {
        let Some(id) = linked_identity(reader, node, "a caller", context) else {
            continue;
        };
        let item = Item::Allow(service.to_owned(), id.clone());
        if reader.places.contains_key(&item) {
            let message = format!("{} is listed twice", id.short());
            reader.fault(node.place, message, "remove one of the two");
            continue;
        }
        reader.remember(item, node.place);
        allow.push(id);
    }
    allow
}
