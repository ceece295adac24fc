//! What one caller may do with topics and groups.

/// Names of topics or groups: each whole, or a prefix that ends in `*` (Kafka's PREFIXED ACLs).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(Vec<Pattern>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(Box<[u8]>),
    Prefix(Box<[u8]>),
}

impl Names {
    /// Whether any name at all is among them.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn contains(&self, name: &[u8]) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(exact) => **exact == *name,
            Pattern::Prefix(prefix) => name.starts_with(prefix),
        })
    }
}

impl<T: AsRef<str>> FromIterator<T> for Names {
    /// From texts as the site file has them: a `*` at the end makes a prefix.
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let pattern = |text: T| match text.as_ref().strip_suffix('*') {
            Some(prefix) => Pattern::Prefix(prefix.as_bytes().into()),
            None => Pattern::Exact(text.as_ref().as_bytes().into()),
        };
        Self(texts.into_iter().map(pattern).collect())
    }
}

/// The rights of one caller. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// Topics it may write to.
    pub produce: Names,
    /// Topics it may read, and commit offsets for.
    pub consume: Names,
    /// Topics it may create, by request or by asking for one that does not exist.
    pub create: Names,
    /// Topics whose metadata and offsets it may see, besides those it may write or read.
    pub describe: Names,
    /// Consumer groups it may use.
    pub group: Names,
}

impl Rights {
    pub(crate) fn allow(&self, right: Right, name: &[u8]) -> bool {
        match right {
            Right::Produce => self.produce.contains(name),
            Right::Consume => self.consume.contains(name),
            Right::Create => self.create.contains(name),
            Right::Describe => [&self.describe, &self.produce, &self.consume]
                .iter()
                .any(|names| names.contains(name)),
            Right::Group => self.group.contains(name),
            Right::Sequence => !self.produce.is_empty(),
            Right::Transaction => false,
        }
    }
}

/// A right that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Produce,
    Consume,
    Create,
    Describe,
    Group,
    /// To number records, for a producer that repeats none; whoever may produce may.
    Sequence,
    /// A transactional ID, to which no caller has a right.
    Transaction,
}

impl Right {
    /// The protocol's error code for its lack.
    pub(crate) fn error_code(self) -> i16 {
        match self {
            Self::Produce | Self::Consume | Self::Create | Self::Describe => 29,
            Self::Group => 30,
            Self::Sequence => 31,
            Self::Transaction => 53,
        }
    }

    fn operation(self) -> &'static str {
        match self {
            Self::Produce => "produce to topic",
            Self::Consume => "consume topic",
            Self::Create => "create topic",
            Self::Describe => "describe topic",
            Self::Group => "use group",
            Self::Sequence => "produce to any topic",
            Self::Transaction => "use transactional id",
        }
    }
}

/// The longest part of a name that is kept for people: Kafka's own limit for topics.
const MAX_NAME: usize = 249;

/// Something that a caller asked for and was denied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Denial {
    /// What it wanted to do, as in "may not ...".
    pub operation: &'static str,
    /// With which topic, group or transactional id; its beginning, should it be long.
    pub name: String,
}

impl Denial {
    pub(crate) fn new(right: Right, name: &[u8]) -> Self {
        let name = name.get(..MAX_NAME).unwrap_or(name);
        Self {
            operation: right.operation(),
            name: String::from_utf8_lossy(name).into_owned(),
        }
    }
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name.as_str() {
            "" => f.write_str(self.operation),
            name => write!(f, "{} {name:?}", self.operation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_whole_or_prefixes() {
        let rights = Rights {
            produce: ["weather"].into_iter().collect(),
            consume: ["quake-*"].into_iter().collect(),
            group: ["*"].into_iter().collect(),
            ..Rights::default()
        };
        for (right, name, allowed) in [
            (Right::Produce, "weather", true),
            (Right::Produce, "weather-2", false),
            (Right::Produce, "quake-1", false),
            (Right::Consume, "quake-1", true),
            (Right::Consume, "quake-", true),
            (Right::Consume, "quake", false),
            (Right::Describe, "weather", true),
            (Right::Describe, "quake-7", true),
            (Right::Describe, "secret", false),
            (Right::Create, "weather", false),
            (Right::Group, "any", true),
            (Right::Sequence, "", true),
            (Right::Transaction, "any", false),
        ] {
            assert_eq!(
                rights.allow(right, name.as_bytes()),
                allowed,
                "{right:?} {name}"
            );
        }
        assert!(!Rights::default().allow(Right::Sequence, b""));
        assert!(!Rights::default().allow(Right::Describe, b""));
    }

    #[test]
    fn a_denial_is_a_short_sentence_whatever_the_name() {
        let denial = Denial::new(Right::Produce, b"se\xffcret\n");
        assert_eq!(denial.to_string(), "produce to topic \"se\u{fffd}cret\\n\"");
        assert_eq!(
            Denial::new(Right::Group, &[b'x'; 5000]).name.len(),
            MAX_NAME
        );
    }
}
