//! YAML as a tree of texts with their places.
//!
//! A derived reader would stop at the first fault. So the text becomes a tree first, which only
//! bad YAML can prevent, and [`crate::read`] walks the tree and collects all faults. Every scalar
//! is kept as it is spelled: a site named `on` or `007` is that text, not a boolean or a number.

use std::fmt;

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{DuplicateKeyPolicy, Error, Options, Spanned};

use crate::{Place, fault::Fault};

/// Deeper than any site file nests, shallow enough for any stack.
const MAX_DEPTH: usize = 24;

/// A YAML node and its place in the file.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    Text(String),
    List(Vec<Node>),
    /// Entries in the order of the text, repeated keys included.
    Map(Vec<(Node, Node)>),
}

impl Value {
    /// What people call this kind of node.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Parses one YAML document, or says where it is no YAML.
pub(crate) fn parse(text: &str) -> Result<Node, Fault> {
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options()) {
        Ok(root) => Ok(root
            .value
            .into_node(Place::of(root.referenced, text), &root.defined, text)),
        Err(error) => Err(syntax_fault(&error, text)),
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_documents: 2,
            max_events: 400_000,
            max_nodes: 200_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_total_scalar_bytes: crate::MAX_TEXT,
            max_merge_keys: 100,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
            max_replay_stack_depth: 8,
        },
        emit_comments: false,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn syntax_fault(error: &Error, text: &str) -> Fault {
    let place = error
        .location()
        .map_or(Place::START, |location| Place::of(location, text));
    let text = error.without_snippet().to_string();
    // The fault has the place already.
    let text = text.split(" at line ").next().unwrap_or_default();
    let not_yaml = || format!("this is not valid YAML: {text}");
    let (message, hint) = match error.without_snippet() {
        Error::MultipleDocuments { .. } => (
            "a site file is one YAML document".to_owned(),
            "remove the `---` and what follows it",
        ),
        Error::UnknownAnchor { .. } => (not_yaml(), "put a text that starts with `*` in quotes"),
        Error::UnsupportedTag { .. } => (not_yaml(), "put a text that starts with `!` in quotes"),
        error if matches!(error, Error::Budget { .. }) || text.contains("limit exceeded") => (
            "this nests deeper or repeats more than a site file does".to_owned(),
            "write mappings within mappings, without aliases of aliases",
        ),
        _ => (
            not_yaml(),
            "indent with spaces, close every bracket and quote, and put IPv6 addresses such as \
             \"[::1]:9092\" in quotes",
        ),
    };
    Fault {
        place,
        message,
        hint: hint.to_owned(),
    }
}

/// A node as the YAML parser delivers it.
enum Raw {
    Null,
    Text(String),
    /// A number or boolean. Its spelling is taken from the text.
    Spelled,
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<Raw>, Spanned<Raw>)>),
}

impl Raw {
    fn into_node(self, place: Place, defined: &serde_saphyr::Location, text: &str) -> Node {
        let node = |raw: Spanned<Raw>| {
            raw.value
                .into_node(Place::of(raw.referenced, text), &raw.defined, text)
        };
        let value = match self {
            Self::Null => Value::Null,
            Self::Text(text) => Value::Text(text),
            Self::Spelled => Value::Text(spelling(Place::of(*defined, text), text)),
            Self::List(items) => Value::List(items.into_iter().map(node).collect()),
            Self::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (node(key), node(value)))
                    .collect(),
            ),
        };
        Node { place, value }
    }
}

fn spelling(place: Place, text: &str) -> String {
    text.get(place.offset..place.offset + place.length)
        .unwrap_or_default()
        .to_owned()
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> de::Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a list or a mapping")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Spelled)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Spelled)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Spelled)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Spelled)
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<Raw, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Raw::List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<Raw, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Raw::Map(map))
    }
}

impl Node {
    /// The text of a scalar.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}
