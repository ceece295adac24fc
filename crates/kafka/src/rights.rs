//! Which right a request needs, and how its lack is answered.

use renkei_access::TopicRights;

use crate::api::Api;

/// A right that a request needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    Produce,
    Consume,
    Create,
    Describe,
    Group,
    /// To number records, for a producer that repeats none; who may produce may.
    Sequence,
    /// A transactional ID, to which no caller has a right.
    Transaction,
    /// To read as a broker does, beyond what all replicas have; no caller has this right.
    Replica,
}

impl Right {
    /// Whether a caller with these rights has this one to the topic or group.
    pub(crate) fn is_in(self, rights: &TopicRights, name: &[u8]) -> bool {
        match self {
            Self::Produce => rights.produce.contains(name),
            Self::Consume => rights.consume.contains(name),
            Self::Create => rights.create.contains(name),
            Self::Describe => [&rights.describe, &rights.produce, &rights.consume]
                .iter()
                .any(|names| names.contains(name)),
            Self::Group => rights.group.contains(name),
            Self::Sequence => !rights.produce.is_empty(),
            Self::Transaction | Self::Replica => false,
        }
    }

    /// The protocol's error code for its lack.
    pub(crate) fn error_code(self) -> i16 {
        match self {
            // As a broker answers who may not be a broker (`KafkaApis.handleFetchRequest`).
            Self::Produce | Self::Consume | Self::Create | Self::Describe | Self::Replica => 29,
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
            Self::Replica => "read as a broker does",
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
    /// A short, stable name for metrics.
    pub label: &'static str,
}

impl Denial {
    pub(crate) fn new(right: Right, name: &[u8]) -> Self {
        let name = name.get(..MAX_NAME).unwrap_or(name);
        Self {
            operation: right.operation(),
            name: String::from_utf8_lossy(name).into_owned(),
            label: "topic_denied",
        }
    }

    /// For a request that is not carried, whatever the rights.
    pub(crate) fn unsupported(api: &Api, version: i16) -> Self {
        Self {
            operation: "send the request",
            name: format!("{} version {version}", api.name),
            label: "unsupported_request",
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
    fn a_right_follows_from_the_names_of_its_kind() {
        let rights = TopicRights {
            produce: ["weather"].into_iter().collect(),
            consume: ["quake-*"].into_iter().collect(),
            group: ["*"].into_iter().collect(),
            ..TopicRights::default()
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
            let is_in = right.is_in(&rights, name.as_bytes());
            assert_eq!(is_in, allowed, "{right:?} {name}");
        }
        let none = TopicRights::default();
        assert!(!Right::Sequence.is_in(&none, b""));
        assert!(!Right::Describe.is_in(&none, b""));
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
