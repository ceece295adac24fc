//! What the callers of a service may do there, by HTTP method and path.

use std::collections::BTreeMap;

use renkei_access::MethodRule;
use renkei_spiffe::SpiffeId;

use super::{
    caller_table::CallerTable,
    context::Context,
    fields::{Entry, Fields, Reader, Wrong},
};
use crate::Protocol;

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
    let table = CallerTable {
        key: "methods",
        protocol: Protocol::Http,
        example: EXAMPLE,
        rights: "rules",
        list: "list",
    };
    table.read(reader, fields, (protocol, allow), context, rules)
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
