//! What a caller may do at a service that speaks Kafka.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The topics and groups that a caller may use. The default allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRights {
    /// Topics it may write to.
    pub produce: NamePatterns,
    /// Topics it may read, and commit offsets for.
    pub consume: NamePatterns,
    /// Topics it may create, by request or by asking for one that does not exist.
    pub create: NamePatterns,
    /// Topics whose metadata and offsets it may see, besides those it may write or read.
    pub describe: NamePatterns,
    /// Consumer groups it may use.
    pub group: NamePatterns,
}

/// Names of topics or groups: each whole, or a prefix that ends in `*` (Kafka's PREFIXED ACLs).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NamePatterns(Vec<Pattern>);

/// As written in the site file: `weather`, `quake-*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", from = "String")]
enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
}

impl NamePatterns {
    /// Whether no name at all is among them.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a name, as it came on the wire, is among them. It need not be UTF-8.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(exact) => exact.as_bytes() == name,
            Pattern::Prefix(prefix) => name.starts_with(prefix.as_bytes()),
        })
    }
}

impl<T: Into<String>> FromIterator<T> for NamePatterns {
    /// From texts as the site file has them: a `*` at the end makes a prefix.
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let texts = texts.into_iter().map(Into::into);
        Self(texts.map(Pattern::from).collect())
    }
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Exact(text.into()),
        }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_or_prefixes() {
        let names: NamePatterns = ["weather", "quake-*"].into_iter().collect();
        for (name, is_in) in [
            ("weather", true),
            ("weather-2", false),
            ("Weather", false),
            ("quake-1", true),
            ("quake-", true),
            ("quake", false),
            ("", false),
        ] {
            assert_eq!(names.contains(name.as_bytes()), is_in, "{name}");
        }
        assert!(names.contains(b"quake-\xff"));
        let any: NamePatterns = ["*"].into_iter().collect();
        assert!(any.contains(b"") && any.contains(b"weather"));
        assert!(!NamePatterns::default().contains(b""));
    }

    #[test]
    fn rights_read_back_as_they_are_written() {
        let rights = TopicRights {
            produce: ["weather", "quake-*"].into_iter().collect(),
            group: ["*"].into_iter().collect(),
            ..TopicRights::default()
        };
        let json = serde_json::to_value(&rights).unwrap();
        assert_eq!(json["produce"], serde_json::json!(["weather", "quake-*"]));
        assert_eq!(json["consume"], serde_json::json!([]));
        let read: TopicRights = serde_json::from_value(json).unwrap();
        assert_eq!(read, rights);
    }
}
