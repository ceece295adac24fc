//! The site itself: names, addresses and lifetimes.

use std::{net::SocketAddr, time::Duration};

use renkei_spiffe::TrustDomain;

use super::{
    fields::{Entry, Fields, Reader, no_later_keys, required},
    values,
};
use crate::{
    Bandwidth, BundleEndpoint, Host, HostPort, Item, Lifetimes, Place, WorkloadApiLimits,
    schema::keys,
};

/// Connections or streams that a limit may allow.
const MOST_CLIENTS: u32 = 65_536;
const DAY: Duration = Duration::from_hours(24);

/// The site itself, as far as it could be read.
pub(crate) struct Frame {
    pub(crate) site_name: Option<String>,
    pub(crate) trust_domain: Option<TrustDomain>,
    /// There is a gateway, though it may be at fault.
    pub(crate) has_gateway: bool,
    pub(crate) gateway: Option<WrittenGateway>,
    pub(crate) bundle_endpoint: Option<BundleEndpoint>,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) workload_api: WorkloadApiLimits,
    pub(crate) admin: Option<SocketAddr>,
}

/// The gateway as written; what `via` means is settled once the peers are known.
pub(crate) struct WrittenGateway {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) advertise: Option<HostPort>,
    pub(crate) via: Option<(TrustDomain, Place)>,
    pub(crate) max_lanes: Option<usize>,
    pub(crate) bandwidth: Option<Bandwidth>,
}

pub(crate) fn read(reader: &mut Reader, fields: &Fields<'_>) -> Frame {
    let site_name = required(reader, fields, "site", "osaka", values::site_name);
    let trust_domain = trust_domain(reader, fields);
    let gateway = fields.get("gateway").and_then(|of| gateway(reader, of));
    let bundle_endpoint = fields
        .get("bundle_endpoint")
        .and_then(|of| bundle_endpoint(reader, of));
    let lifetimes = lifetimes(reader, fields.get("lifetimes"));
    let workload_api = workload_api(reader, fields.get("workload_api"));
    let admin = fields.get("admin").and_then(|of| admin(reader, of));
    Frame {
        site_name,
        trust_domain,
        has_gateway: fields.get("gateway").is_some(),
        gateway,
        bundle_endpoint,
        lifetimes,
        workload_api,
        admin,
    }
}

fn trust_domain(reader: &mut Reader, fields: &Fields<'_>) -> Option<TrustDomain> {
    let name = required(
        reader,
        fields,
        "trust_domain",
        "osaka.example",
        values::trust_domain,
    )?;
    let entry = fields.get("trust_domain")?;
    reader.remember(Item::TrustDomain, entry.value.place);
    Some(name)
}

fn gateway(reader: &mut Reader, of: Entry<'_>) -> Option<WrittenGateway> {
    let example = "{listen: 0.0.0.0:8443, advertise: gw.osaka.example:8443}";
    let fields = reader.fields(of, keys::GATEWAY, example, no_later_keys);
    if let Some(entry) = fields.get("listen") {
        reader.remember(Item::GatewayListen, entry.value.place);
    }
    let shares = (max_lanes(reader, &fields), bandwidth(reader, &fields));
    if let Some(entry) = fields.get("via") {
        return gateway_via(reader, &fields, entry, shares);
    }
    let listen = required(reader, &fields, "listen", "0.0.0.0:8443", values::listen);
    let dialled = ("other sites", "gw.osaka.example");
    let advertise = advertise(reader, &fields, listen, dialled);
    Some(WrittenGateway {
        listen: Some(listen?),
        advertise: Some(advertise?),
        via: None,
        max_lanes: shares.0,
        bandwidth: shares.1,
    })
}

/// The address that others dial: `advertise`, or else `listen` if that is one address. `by` names
/// them and an example of a host.
pub(super) fn advertise(
    reader: &mut Reader,
    fields: &Fields<'_>,
    listen: Option<SocketAddr>,
    by: (&str, &str),
) -> Option<HostPort> {
    let (who, host) = by;
    let port = listen.map_or(8443, |listen| listen.port());
    if let Some(entry) = fields.get("advertise") {
        return reader.field(entry, &format!("{host}:{port}"), values::dial);
    }
    let listen = listen?;
    if !listen.ip().is_unspecified() {
        return Some(HostPort::new(Host::Ip(listen.ip()), listen.port()));
    }
    let message = format!("`advertise` is missing: {who} cannot dial \"any address\"");
    let hint = format!("add `advertise: {host}:{port}`");
    reader.fault(fields.place, message, hint);
    None
}

/// The gateway of a site that is reached through a hub: what others dial is the hub's address.
fn gateway_via(
    reader: &mut Reader,
    fields: &Fields<'_>,
    entry: Entry<'_>,
    (max_lanes, bandwidth): (Option<usize>, Option<Bandwidth>),
) -> Option<WrittenGateway> {
    let via = reader.field(entry, "hokkaido.example", values::trust_domain);
    reader.remember(Item::GatewayVia, entry.value.place);
    let listen = match fields.get("listen") {
        Some(entry) => Some(reader.field(entry, "0.0.0.0:8443", values::listen)?),
        None => None,
    };
    if let Some(entry) = fields.get("advertise") {
        reader.fault(
            entry.place,
            "`advertise` cannot be used with `via`: other sites dial the hub's gateway",
            "remove `advertise`, or `via` if other sites can dial this one",
        );
    }
    Some(WrittenGateway {
        listen,
        advertise: None,
        via: Some((via?, entry.value.place)),
        max_lanes,
        bandwidth,
    })
}

pub(super) fn max_lanes(reader: &mut Reader, fields: &Fields<'_>) -> Option<usize> {
    let entry = fields.get("max_lanes")?;
    reader.field(entry, "4", values::lanes)
}

pub(super) fn bandwidth(reader: &mut Reader, fields: &Fields<'_>) -> Option<Bandwidth> {
    let entry = fields.get("bandwidth")?;
    reader.field(entry, "500 Mbit/s", values::bandwidth)
}

fn bundle_endpoint(reader: &mut Reader, of: Entry<'_>) -> Option<BundleEndpoint> {
    let example = "{listen: 0.0.0.0:443, certificate: web.pem, key: web.key}";
    let fields = reader.fields(of, keys::BUNDLE_ENDPOINT, example, no_later_keys);
    let listen = required(reader, &fields, "listen", "0.0.0.0:443", values::listen);
    let certificate = required(reader, &fields, "certificate", "web.pem", values::path);
    let key = required(reader, &fields, "key", "web.key", values::path);
    for (field, item) in [
        ("listen", Item::BundleEndpointListen),
        ("certificate", Item::BundleEndpointCertificate),
        ("key", Item::BundleEndpointKey),
    ] {
        if let Some(entry) = fields.get(field) {
            reader.remember(item, entry.value.place);
        }
    }
    Some(BundleEndpoint {
        listen: listen?,
        certificate: certificate?,
        key: key?,
    })
}

fn admin(reader: &mut Reader, entry: Entry<'_>) -> Option<SocketAddr> {
    reader.remember(Item::Admin, entry.value.place);
    reader.field(entry, "127.0.0.1:9901", |text| {
        values::listen_locally(text, "metrics are for this node only")
    })
}

fn lifetimes(reader: &mut Reader, of: Option<Entry<'_>>) -> Lifetimes {
    let mut lifetimes = Lifetimes::default();
    let Some(of) = of else { return lifetimes };
    let fields = reader.fields(
        of,
        keys::LIFETIMES,
        "{ca: 24h, x509_svid: 1h}",
        no_later_keys,
    );
    let seconds = Duration::from_secs;
    for (key, value, least, most) in [
        ("ca", &mut lifetimes.ca, seconds(10), 3650 * DAY),
        ("x509_svid", &mut lifetimes.x509_svid, seconds(5), 365 * DAY),
        (
            "bundle_refresh",
            &mut lifetimes.bundle_refresh,
            seconds(1),
            7 * DAY,
        ),
    ] {
        let Some(entry) = fields.get(key) else {
            continue;
        };
        let read = |text: &str| values::duration(text, least, most);
        if let Some(duration) = reader.field(entry, "24h", read) {
            *value = duration;
        }
    }
    if let Some(wrong) = values::outlived(&lifetimes) {
        let entry = fields.get("x509_svid").or_else(|| fields.get("ca"));
        reader.wrong(entry.map_or(of.place, |entry| entry.value.place), wrong);
    }
    if let Some(wrong) = values::hurried(&lifetimes) {
        let entry = fields.get("ca");
        reader.wrong(entry.map_or(of.place, |entry| entry.value.place), wrong);
    } else if let Some(wrong) = values::unlearned(&lifetimes) {
        let entry = fields.get("bundle_refresh").or_else(|| fields.get("ca"));
        reader.wrong(entry.map_or(of.place, |entry| entry.value.place), wrong);
    }
    lifetimes
}

fn workload_api(reader: &mut Reader, of: Option<Entry<'_>>) -> WorkloadApiLimits {
    let mut limits = WorkloadApiLimits::default();
    let Some(of) = of else { return limits };
    let example = "{connections_per_user: 512}";
    let fields = reader.fields(of, keys::WORKLOAD_API, example, no_later_keys);
    for (key, value) in [
        ("connections", &mut limits.connections),
        ("connections_per_user", &mut limits.connections_per_user),
        ("streams_per_connection", &mut limits.streams_per_connection),
    ] {
        let Some(entry) = fields.get(key) else {
            continue;
        };
        let read = |text: &str| values::count(text, 1, MOST_CLIENTS);
        if let Some(count) = reader.field(entry, "512", read) {
            *value = count;
        }
    }
    if limits.connections_per_user > limits.connections {
        let entry = fields.get("connections_per_user");
        let entry = entry.or_else(|| fields.get("connections"));
        let message = format!(
            "`connections_per_user: {}` is more than `connections: {}`",
            limits.connections_per_user, limits.connections
        );
        let hint = "lower `connections_per_user`, or raise `connections`";
        reader.fault(
            entry.map_or(of.place, |entry| entry.value.place),
            message,
            hint,
        );
    }
    limits
}
