//! A part of a service that says for each caller what it may do there, in the terms of one
//! protocol.

use std::collections::BTreeMap;

use renkei_spiffe::SpiffeId;

use super::{
    context::{Context, linked_identity},
    fields::{Entry, Fields, Reader},
};
use crate::{
    Protocol,
    node::{Node, Value},
};

/// How such a part is written, and what its faults call it.
pub(super) struct CallerTable {
    /// The key of the site file.
    pub(super) key: &'static str,
    /// The protocol that it has a meaning for.
    pub(super) protocol: Protocol,
    pub(super) example: &'static str,
    /// What a caller has in it: `rules`.
    pub(super) rights: &'static str,
    /// In what all of them of one caller are written: `list`.
    pub(super) list: &'static str,
}

impl CallerTable {
    /// What each caller may do, `None` where the key is not written. `of_service` is the protocol
    /// of the service and who may connect.
    pub(super) fn read<T>(
        &self,
        reader: &mut Reader,
        fields: &Fields<'_>,
        of_service: (Option<Protocol>, &[SpiffeId]),
        context: &Context<'_>,
        read: fn(&mut Reader, Entry<'_>) -> T,
    ) -> Option<BTreeMap<SpiffeId, T>> {
        let of = fields.get(self.key)?;
        let (protocol, allow) = of_service;
        self.check_protocol(reader, of, protocol);
        let entries = self.entries(reader, of);
        let may_connect =
            |caller: &SpiffeId| allow.contains(caller) || fields.get("policy").is_some();
        let mut table: BTreeMap<SpiffeId, T> = BTreeMap::new();
        for entry in entries {
            let caller = caller(reader, entry, context);
            let rights = read(reader, entry);
            let Some(caller) = caller else { continue };
            if table.contains_key(&caller) {
                let message = format!("{} is written twice", caller.short());
                let hint = format!("write all of its {} in one {}", self.rights, self.list);
                reader.fault(entry.place, message, hint);
            } else if !may_connect(&caller) {
                let message = format!(
                    "{} has {}, but may not connect",
                    caller.short(),
                    self.rights
                );
                let hint = format!("add {} to `allow`", caller.short());
                reader.fault(entry.place, message, hint);
            }
            table.insert(caller, rights);
        }
        Some(table)
    }

    fn check_protocol(&self, reader: &mut Reader, of: Entry<'_>, protocol: Option<Protocol>) {
        let (key, own) = (self.key, self.protocol.as_str());
        let Some(other) = protocol.filter(|protocol| *protocol != self.protocol) else {
            return;
        };
        let message = format!(
            "`{key}` is for protocol {own}, and this service has protocol {}",
            other.as_str()
        );
        let hint = format!("add `protocol: {own}`, or remove `{key}`");
        reader.fault(of.place, message, hint);
    }

    fn entries<'a>(&self, reader: &mut Reader, of: Entry<'a>) -> Vec<Entry<'a>> {
        let (key, example) = (self.key, self.example);
        let before = reader.faults.len();
        let entries = reader.entries(of, example);
        if entries.is_empty() && reader.faults.len() == before {
            let message = format!("`{key}` is empty, so no caller may do anything");
            let hint = format!("write `{key}: {example}`, or remove it to allow everything");
            reader.fault(of.place, message, hint);
        }
        entries
    }
}

fn caller(reader: &mut Reader, entry: Entry<'_>, context: &Context<'_>) -> Option<SpiffeId> {
    let key = Node {
        place: entry.place,
        value: Value::Text(entry.key.to_owned()),
    };
    linked_identity(reader, &key, "a caller", context)
}
