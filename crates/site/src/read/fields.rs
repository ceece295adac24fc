//! Reading a tree of nodes while collecting faults.

use std::collections::BTreeMap;

use crate::{
    Faults, Item, Place,
    node::{Node, Value},
    suggest,
};

/// What is wrong with a value and what to write instead.
pub(crate) struct Wrong {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Wrong {
    pub(crate) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// One entry of a mapping.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a str,
    pub(crate) place: Place,
    pub(crate) value: &'a Node,
}

/// The entries of a mapping whose keys are known beforehand.
pub(crate) struct Fields<'a> {
    /// Where to complain about what is missing.
    pub(crate) place: Place,
    /// Whether it is a mapping at all. If not, that is the fault, and nothing is missing.
    pub(crate) is_mapping: bool,
    entries: BTreeMap<&'a str, Entry<'a>>,
    known: &'static [&'static str],
}

impl<'a> Fields<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<Entry<'a>> {
        debug_assert!(self.known.contains(&key), "{key} is read but not known");
        self.entries.get(key).copied()
    }
}

/// Walks the tree: what it cannot read becomes a fault, and it continues with the rest.
pub(crate) struct Reader {
    pub(crate) faults: Faults,
    pub(crate) places: BTreeMap<Item, Place>,
}

impl Reader {
    pub(crate) fn new(faults: Faults) -> Self {
        Self {
            faults,
            places: BTreeMap::new(),
        }
    }

    /// Notes where an item of the file is written.
    pub(super) fn remember(&mut self, item: Item, place: Place) {
        self.places.insert(item, place);
    }

    pub(crate) fn fault(
        &mut self,
        place: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.faults.push(place, message, hint);
    }

    pub(crate) fn wrong(&mut self, place: Place, wrong: Wrong) {
        self.faults.push(place, wrong.message, wrong.hint);
    }

    pub(crate) fn missing(&mut self, fields: &Fields<'_>, key: &str, example: &str) {
        if fields.is_mapping {
            let hint = format!("add `{key}: {example}`");
            self.fault(fields.place, format!("`{key}` is missing"), hint);
        }
    }

    /// The entries of a mapping in the order of the text, each key once. Nothing is an empty
    /// mapping: people comment the last entry out.
    pub(crate) fn entries<'a>(&mut self, of: Entry<'a>, example: &str) -> Vec<Entry<'a>> {
        match &of.value.value {
            Value::Null => Vec::new(),
            Value::Map(entries) => self.unrepeated(entries),
            other => {
                let message = format!("`{}` must be a mapping, not {}", of.key, other.kind());
                self.fault(
                    pointed(of),
                    message,
                    format!("write `{}: {example}`", of.key),
                );
                Vec::new()
            }
        }
    }

    fn unrepeated<'a>(&mut self, entries: &'a [(Node, Node)]) -> Vec<Entry<'a>> {
        let mut lines = BTreeMap::new();
        let mut kept = Vec::new();
        for (key, value) in entries {
            let Value::Text(text) = &key.value else {
                let message = format!("a key must be text, not {}", key.value.kind());
                self.fault(key.place, message, "write `key: value`");
                continue;
            };
            if let Some(line) = lines.get(text.as_str()) {
                let message = format!("`{text}` is written twice, first in line {line}");
                self.fault(key.place, message, "remove one of the two");
                continue;
            }
            lines.insert(text.as_str(), key.place.line);
            kept.push(Entry {
                key: text,
                place: key.place,
                value,
            });
        }
        kept
    }

    /// The fields of a mapping. Keys that are not `known` become faults, unless `later` answers
    /// for them.
    pub(crate) fn fields<'a>(
        &mut self,
        of: Entry<'a>,
        known: &'static [&'static str],
        example: &str,
        later: impl Fn(&str) -> Option<Wrong>,
    ) -> Fields<'a> {
        let mut fields = Fields {
            place: of.place,
            is_mapping: matches!(of.value.value, Value::Null | Value::Map(_)),
            entries: BTreeMap::new(),
            known,
        };
        for entry in self.entries(of, example) {
            if known.contains(&entry.key) {
                fields.entries.insert(entry.key, entry);
            } else {
                let wrong = later(entry.key).unwrap_or_else(|| unknown_key(entry.key, known));
                self.wrong(entry.place, wrong);
            }
        }
        fields
    }

    /// The items of a list. Nothing is an empty list.
    pub(crate) fn items<'a>(&mut self, of: Entry<'a>, example: &str) -> &'a [Node] {
        match &of.value.value {
            Value::Null => &[],
            Value::List(items) => items,
            other => {
                let message = format!("`{}` must be a list, not {}", of.key, other.kind());
                let hint = match other {
                    Value::Text(text) => format!("write `{}: [{text}]`", of.key),
                    _ => format!("write `{}: [{example}]`", of.key),
                };
                self.fault(pointed(of), message, hint);
                &[]
            }
        }
    }

    /// A text, read by `read`. `what` names it in faults.
    pub(crate) fn scalar<T>(
        &mut self,
        node: &Node,
        what: &str,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let hint = || format!("for example {example}");
        let result = match &node.value {
            Value::Text(text) if !text.is_empty() => read(text),
            Value::Text(_) | Value::Null => Err(Wrong::new(format!("{what} is empty"), hint())),
            other => Err(Wrong::new(
                format!("{what} must be text, not {}", other.kind()),
                hint(),
            )),
        };
        result.map_err(|wrong| self.wrong(node.place, wrong)).ok()
    }

    /// The text of a field, read by `read`.
    pub(crate) fn field<T>(
        &mut self,
        entry: Entry<'_>,
        example: &str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let empty = matches!(entry.value.value, Value::Null);
        let node = Node {
            place: pointed(entry),
            value: Value::Null,
        };
        let node = if empty { &node } else { entry.value };
        self.scalar(node, &format!("`{}`", entry.key), example, read)
    }
}

/// Where to complain about the kind of a value: a block or nothing has no text of its own, its
/// key has.
fn pointed(entry: Entry<'_>) -> Place {
    match entry.value.value {
        Value::Text(_) => entry.value.place,
        _ => entry.place,
    }
}

fn unknown_key(key: &str, known: &[&'static str]) -> Wrong {
    let hint = match suggest::nearest(key, known.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the keys here are {}", known.join(", ")),
    };
    Wrong::new(format!("unknown key `{key}`"), hint)
}

pub(crate) fn no_later_keys(_: &str) -> Option<Wrong> {
    None
}

/// A field that must be there.
pub(crate) fn required<T>(
    reader: &mut Reader,
    fields: &Fields<'_>,
    key: &str,
    example: &str,
    read: impl FnOnce(&str) -> Result<T, Wrong>,
) -> Option<T> {
    match fields.get(key) {
        Some(entry) => reader.field(entry, example, read),
        None => {
            reader.missing(fields, key, example);
            None
        }
    }
}
