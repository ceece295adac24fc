//! What runs at the site and calls others.

use std::collections::BTreeMap;

use renkei_spiffe::SpiffeId;

use super::{
    context::{Context, linked_identity, own_id},
    fields::{Entry, Fields, Reader, Wrong, no_later_keys},
    nodes,
    services::has_server_name,
    values,
};
use crate::{
    Item, Selector, SelectorError, Use, Workload,
    node::{Node, Value},
    schema::keys,
    suggest,
};

const EXAMPLE: &str = "{collector: {selectors: [unix:user:sensor]}}";
const SELECTOR: &str = "unix:user:sensor";

pub(super) fn read(
    reader: &mut Reader,
    of: Option<Entry<'_>>,
    context: &Context<'_>,
) -> BTreeMap<String, Workload> {
    let mut workloads = BTreeMap::new();
    let Some(of) = of else { return workloads };
    for entry in reader.entries(of, EXAMPLE) {
        let name = entry.key;
        let fields = reader.fields(
            entry,
            keys::WORKLOAD,
            "{selectors: [unix:user:sensor]}",
            no_later_keys,
        );
        let id = workload_id(reader, entry, &fields, context);
        let hint = match fields.get("hint") {
            Some(entry) => reader.field(entry, "internal", values::hint),
            None => Some(name.to_owned()),
        };
        let is_default = match fields.get("default") {
            Some(entry) => reader.field(entry, "true", values::flag),
            None => Some(false),
        };
        let selectors = selectors(reader, &fields);
        let on = nodes::on(reader, &fields, context);
        let uses = uses(reader, name, &fields, context);
        if let (Some(id), Some(hint), Some(is_default)) = (id, hint, is_default) {
            let workload = Workload {
                name: name.to_owned(),
                id,
                hint,
                is_default,
                selectors,
                on,
                uses,
            };
            workloads.insert(name.to_owned(), workload);
        }
    }
    workloads
}

fn workload_id(
    reader: &mut Reader,
    of: Entry<'_>,
    fields: &Fields<'_>,
    context: &Context<'_>,
) -> Option<SpiffeId> {
    reader.remember(Item::Workload(of.key.to_owned()), of.place);
    if let Err(wrong) = values::workload_name(of.key) {
        reader.wrong(of.place, wrong);
        return None;
    }
    if context.services.contains(of.key) {
        let message = format!(
            "`{}` is a service already; both would be one identity",
            of.key
        );
        reader.fault(of.place, message, "rename the workload or the service");
        return None;
    }
    own_id(reader, of, fields, context)
}

fn selectors(reader: &mut Reader, fields: &Fields<'_>) -> Vec<Selector> {
    let Some(entry) = fields.get("selectors") else {
        reader.missing(fields, "selectors", &format!("[{SELECTOR}]"));
        return Vec::new();
    };
    let before = reader.faults.len();
    let mut selectors: Vec<Selector> = Vec::new();
    for node in reader.items(entry, SELECTOR) {
        let Some(selector) = reader.scalar(node, "a selector", SELECTOR, selector) else {
            continue;
        };
        if let Some(wrong) = selectors
            .iter()
            .find_map(|other| contradiction(other, &selector))
        {
            reader.wrong(node.place, wrong);
        }
        selectors.push(selector);
    }
    if selectors.is_empty() && reader.faults.len() == before {
        let hint = format!(
            "write `selectors: [{SELECTOR}]`; without one no process matches this workload"
        );
        reader.fault(entry.place, "a workload needs at least one selector", hint);
    }
    selectors
}

fn selector(text: &str) -> Result<Selector, Wrong> {
    Selector::parse(text).map_err(|error| {
        let hint = match &error {
            SelectorError::Unknown {
                meant: Some(meant), ..
            } => format!("did you mean `{meant}`?"),
            SelectorError::Value { kind, .. } if kind == "unix:uid" => {
                "write unix:uid:1000, or unix:user:NAME".to_owned()
            }
            SelectorError::Value { kind, .. } if kind == "unix:gid" => {
                "write unix:gid:1000, or unix:group:NAME".to_owned()
            }
            SelectorError::Value { kind, needs, .. } => format!("write {kind}: and {needs}"),
            _ => "write unix:uid, user, gid, group, path or sha256, such as unix:user:sensor"
                .to_owned(),
        };
        Wrong::new(error.to_string(), hint)
    })
}

/// All selectors must match, so two values of one kind match no process.
fn contradiction(one: &Selector, other: &Selector) -> Option<Wrong> {
    let same_kind = one.parts().0 == other.parts().0;
    if one == other {
        Some(Wrong::new(
            format!("{one} is listed twice"),
            "remove one of the two",
        ))
    } else if same_kind && one.is_single_valued() {
        let message = format!("no process is both {one} and {other}, and all selectors must match");
        Some(Wrong::new(
            message,
            "keep one, and name a second workload for the other",
        ))
    } else {
        None
    }
}

fn uses(
    reader: &mut Reader,
    workload: &str,
    fields: &Fields<'_>,
    context: &Context<'_>,
) -> Vec<Use> {
    let Some(of) = fields.get("uses") else {
        return Vec::new();
    };
    let mut uses: Vec<Use> = Vec::new();
    for entry in reader.entries(of, "{hokkaido.example/broker: 127.0.0.1:19092}") {
        let target = target(reader, entry, context);
        let listen = reader.field(entry, "127.0.0.1:19092", |text| {
            values::listen_locally(text, "only callers on this node can be attested")
        });
        let Some(target) = target else { continue };
        let item = Item::Use(workload.to_owned(), target.clone());
        if reader.places.contains_key(&item) {
            let message = format!("{} is written twice", target.short());
            reader.fault(entry.place, message, "remove one of the two");
            continue;
        }
        reader.remember(item, entry.value.place);
        uses.extend(listen.map(|listen| Use { target, listen }));
    }
    uses
}

fn target(reader: &mut Reader, entry: Entry<'_>, context: &Context<'_>) -> Option<SpiffeId> {
    let key = Node {
        place: entry.place,
        value: Value::Text(entry.key.to_owned()),
    };
    let id = linked_identity(reader, &key, "a service", context)?;
    let trust_domain = id.trust_domain();
    if context.own.as_ref() == Some(trust_domain) {
        let name = id.path().trim_start_matches('/');
        if !context.has_service(&id) {
            let hint = match suggest::nearest(name, context.services.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "write TRUST-DOMAIN/NAME for a service of another site".to_owned(),
            };
            reader.fault(
                entry.place,
                format!("this site has no service `{name}`"),
                hint,
            );
            return None;
        }
    } else if context.peers.lacks_gateway(trust_domain) {
        let message = format!(
            "{trust_domain} has no gateway here, so {} cannot be reached",
            id.short()
        );
        let hint = format!("add `gateway: HOST:PORT` to `{trust_domain}` in `peers`");
        reader.fault(entry.place, message, hint);
        return None;
    } else if let Err(wrong) = has_server_name(&id) {
        reader.wrong(entry.place, wrong);
        return None;
    }
    Some(id)
}
