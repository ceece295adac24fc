//! What the callers of a service may do there with Kafka's topics and groups.

use std::collections::BTreeMap;

use renkei_access::{NamePatterns, TopicRights};
use renkei_spiffe::SpiffeId;

use super::{
    context::{Context, linked_identity},
    fields::{Entry, Fields, Reader, Wrong},
};
use crate::{
    Protocol,
    node::{Node, Value},
    schema::keys,
};

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
    let of = fields.get("topics")?;
    if let Some(other) = protocol.filter(|protocol| *protocol != Protocol::Kafka) {
        let message = format!(
            "`topics` is for protocol kafka, and this service has protocol {}",
            other.as_str()
        );
        reader.fault(
            of.place,
            message,
            "add `protocol: kafka`, or remove `topics`",
        );
    }
    let before = reader.faults.len();
    let entries = reader.entries(of, EXAMPLE);
    if entries.is_empty() && reader.faults.len() == before {
        let hint = format!("write `topics: {EXAMPLE}`, or remove it to allow everything");
        reader.fault(
            of.place,
            "`topics` is empty, so no caller may do anything",
            hint,
        );
    }
    let may_connect = |caller: &SpiffeId| allow.contains(caller) || fields.get("policy").is_some();
    let mut topics: BTreeMap<SpiffeId, TopicRights> = BTreeMap::new();
    for entry in entries {
        let caller = caller(reader, entry, context);
        let rights = rights(reader, entry);
        let Some(caller) = caller else { continue };
        if topics.contains_key(&caller) {
            let message = format!("{} is written twice", caller.short());
            reader.fault(entry.place, message, "write all of its rights in one entry");
        } else if !may_connect(&caller) {
            let message = format!("{} has rights, but may not connect", caller.short());
            let hint = format!("add {} to `allow`", caller.short());
            reader.fault(entry.place, message, hint);
        }
        topics.insert(caller, rights);
    }
    Some(topics)
}

fn caller(reader: &mut Reader, entry: Entry<'_>, context: &Context<'_>) -> Option<SpiffeId> {
    let key = Node {
        place: entry.place,
        value: Value::Text(entry.key.to_owned()),
    };
    linked_identity(reader, &key, "a caller", context)
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
