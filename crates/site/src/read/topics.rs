//! What the callers of a service may do there with Kafka's topics and groups.

use std::collections::BTreeMap;

use renkei_access::{NamePatterns, TopicRights};
use renkei_spiffe::SpiffeId;

use super::{
    caller_table::CallerTable,
    context::Context,
    fields::{Entry, Fields, Reader, Wrong},
};
use crate::{Protocol, schema::keys};

const EXAMPLE: &str = "{osaka.example/collector: {produce: [weather]}}";
const RIGHTS: &str = "{produce: [weather], consume: [weather-*], group: [readers]}";

/// Kafka's limit for the name of a topic.
const MAX_NAME: usize = 249;

/// The rights of each caller, `None` where there is no `topics`.
pub(super) fn read(
    reader: &mut Reader,
    fields: &Fields<'_>,
    protocol: Option<Protocol>,
    allow: &[SpiffeId],
    context: &Context<'_>,
) -> Option<BTreeMap<SpiffeId, TopicRights>> {
    let table = CallerTable {
        key: "topics",
        protocol: Protocol::Kafka,
        example: EXAMPLE,
        rights: "rights",
        list: "entry",
    };
    table.read(reader, fields, (protocol, allow), context, rights)
}

fn rights(reader: &mut Reader, entry: Entry<'_>) -> TopicRights {
    let before = reader.faults.len();
    let fields = reader.fields(entry, keys::TOPIC_RIGHTS, RIGHTS, |_| None);
    let mut topics = |key| names(reader, &fields, key, "weather-*", topic);
    let rights = TopicRights {
        produce: topics("produce"),
        consume: topics("consume"),
        create: topics("create"),
        describe: topics("describe"),
        group: names(reader, &fields, "group", "readers", group),
    };
    if rights == TopicRights::default() && reader.faults.len() == before {
        let message = format!("`{}` has no right", entry.key);
        let hint = format!("write {RIGHTS}; a caller without rights needs no entry");
        reader.fault(entry.place, message, hint);
    }
    rights
}

fn names(
    reader: &mut Reader,
    fields: &Fields<'_>,
    key: &str,
    example: &str,
    read: fn(&str) -> Result<String, Wrong>,
) -> NamePatterns {
    let Some(entry) = fields.get(key) else {
        return NamePatterns::default();
    };
    let mut names: Vec<String> = Vec::new();
    for node in reader.items(entry, example) {
        let Some(name) = reader.scalar(node, "a name", example, read) else {
            continue;
        };
        if names.contains(&name) {
            let message = format!("{name} is listed twice");
            reader.fault(node.place, message, "remove one of the two");
            continue;
        }
        names.push(name);
    }
    names.into_iter().collect()
}

fn topic(text: &str) -> Result<String, Wrong> {
    let name = text.strip_suffix('*').unwrap_or(text);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let whole = !matches!(text, "." | "..");
    if whole && name.len() <= MAX_NAME && name.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("{text:?} is not the name of a topic"),
        "use letters, digits, '.', '_' and '-', at most 249, and '*' at the end for a prefix",
    ))
}

fn group(text: &str) -> Result<String, Wrong> {
    let name = text.strip_suffix('*').unwrap_or(text);
    if !name.contains('*') && !name.contains(char::is_control) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("{text:?} is not the name of a group"),
        "use '*' at the end alone, for a prefix",
    ))
}
