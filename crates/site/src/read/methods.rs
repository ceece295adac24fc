//! What the callers of a service may do there, by HTTP method and path.

use std::collections::BTreeMap;

use renkei_access::MethodRule;
use renkei_spiffe::SpiffeId;

use super::{
    context::{Context, linked_identity},
    fields::{Entry, Fields, Reader, Wrong},
};
use crate::{
    Protocol,
    node::{Node, Value},
};

const EXAMPLE: &str = "{osaka.example/collector: [GET /v1/*]}";
const RULES: &str = "[GET /v1/*]";

/// The rules of each caller, `None` where there is no `methods`.
pub(super) fn read(
    reader: &mut Reader,
    fields: &Fields<'_>,
    protocol: Option<Protocol>,
    allow: &[SpiffeId],
    context: &Context<'_>,
) -> Option<BTreeMap<SpiffeId, Vec<MethodRule>>> {
    let of = fields.get("methods")?;
    if let Some(other) = protocol.filter(|protocol| *protocol != Protocol::Http) {
        let message = format!(
            "`methods` is for protocol http, and this service has protocol {}",
            other.as_str()
        );
        reader.fault(
            of.place,
            message,
            "add `protocol: http`, or remove `methods`",
        );
    }
    let before = reader.faults.len();
    let entries = reader.entries(of, EXAMPLE);
    if entries.is_empty() && reader.faults.len() == before {
        let hint = format!("write `methods: {EXAMPLE}`, or remove it to allow everything");
        reader.fault(
            of.place,
            "`methods` is empty, so no caller may do anything",
            hint,
        );
    }
    let may_connect = |caller: &SpiffeId| allow.contains(caller) || fields.get("policy").is_some();
    let mut methods: BTreeMap<SpiffeId, Vec<MethodRule>> = BTreeMap::new();
    for entry in entries {
        let caller = caller(reader, entry, context);
        let rules = rules(reader, entry);
        let Some(caller) = caller else { continue };
        if methods.contains_key(&caller) {
            let message = format!("{} is written twice", caller.short());
            reader.fault(entry.place, message, "write all of its rules in one list");
        } else if !may_connect(&caller) {
            let message = format!("{} has rules, but may not connect", caller.short());
            let hint = format!("add {} to `allow`", caller.short());
            reader.fault(entry.place, message, hint);
        }
        methods.insert(caller, rules);
    }
    Some(methods)
}

fn caller(reader: &mut Reader, entry: Entry<'_>, context: &Context<'_>) -> Option<SpiffeId> {
    let key = Node {
        place: entry.place,
        value: Value::Text(entry.key.to_owned()),
    };
    linked_identity(reader, &key, "a caller", context)
}

fn rules(reader: &mut Reader, entry: Entry<'_>) -> Vec<MethodRule> {
    let before = reader.faults.len();
    let mut rules: Vec<MethodRule> = Vec::new();
    for node in reader.items(entry, "GET /v1/*") {
        let read = |text: &str| {
            MethodRule::parse(text).map_err(|error| Wrong::new(error.message, error.hint))
        };
        let Some(rule) = reader.scalar(node, "a rule", "GET /v1/*", read) else {
            continue;
        };
        if rules.contains(&rule) {
            let message = format!("`{rule}` is listed twice");
            reader.fault(node.place, message, "remove one of the two");
        }
        rules.push(rule);
    }
    if rules.is_empty() && reader.faults.len() == before {
        let message = format!("`{}` has no rule", entry.key);
        let hint = format!("write {RULES}; a caller without rights needs no entry");
        reader.fault(entry.place, message, hint);
    }
    rules
}
