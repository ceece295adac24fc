//! The requests that are carried while topic rights are in force, and what they need.
//!
//! Versions are those that name topics by name, from the first that Kafka 4 still understands:
//! an id means nothing to a rule, and a newer name for the same topic would have to be guessed.

use super::{
    answer::Part,
    forms,
    layout::{Field, Versioned},
};
use crate::{api, rights::Right};

/// A request that is carried.
#[derive(Debug)]
pub(crate) struct Governed {
    pub(crate) key: i16,
    pub(crate) min_version: i16,
    pub(crate) max_version: i16,
    /// The first version in the compact form of KIP-482.
    flexible: i16,
    pub(super) rule: Rule,
}

impl Governed {
    pub(super) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }
}

/// What a request needs.
#[derive(Debug)]
pub(super) enum Rule {
    /// No right.
    Free,
    /// A right to the one thing that it names first.
    One {
        subject: Subject,
        denied: &'static [Versioned<Part>],
    },
    /// A right to each thing in a list.
    Each(Each),
}

/// What a request names first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A group.
    Group,
    /// A group or a transactional id, and then which of them.
    Coordinator,
    /// A transactional id, or nothing.
    Producer,
}

/// A list of topics or groups within a request, and the list that answers it.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) right: Right,
    /// The request up to the list.
    pub(super) before: &'static [Versioned<Field>],
    /// Whether null stands for everything.
    pub(super) nullable: bool,
    pub(super) element: &'static [Versioned<Field>],
    /// An element's partitions, each beginning with its number, if it has any: they follow its
    /// name.
    pub(super) partition: Option<&'static [Versioned<Field>]>,
    /// The answer around its list.
    pub(super) answer_before: &'static [Versioned<Part>],
    pub(super) answer_after: &'static [Versioned<Part>],
    /// The answer's element, or partition of an element, for what is denied.
    pub(super) denied: &'static [Versioned<Part>],
    /// The answer as brokers write it, where what may not be seen is left out.
    pub(super) shown: Option<Shown>,
    /// The whole answer, should the group be denied.
    pub(super) group_denied: Option<&'static [Versioned<Part>]>,
}

/// A list in an answer.
#[derive(Debug)]
pub(super) struct Shown {
    /// The answer up to it.
    pub(super) before: &'static [Versioned<Field>],
    pub(super) element: &'static [Versioned<Field>],
}

const fn governed(key: i16, versions: (i16, i16), flexible: i16, rule: Rule) -> Governed {
    Governed {
        key,
        min_version: versions.0,
        max_version: versions.1,
        flexible,
        rule,
    }
}

const fn free(key: i16, max: i16) -> Governed {
    governed(key, (0, max), 0, Rule::Free)
}

const fn one(
    key: i16,
    versions: (i16, i16),
    flexible: i16,
    subject: Subject,
    denied: &'static [Versioned<Part>],
) -> Governed {
    governed(key, versions, flexible, Rule::One { subject, denied })
}

/// The requests that are carried, in order of their keys.
static GOVERNED: &[Governed] = &[
    governed(api::PRODUCE, (3, 9), 9, Rule::Each(forms::PRODUCE)),
    governed(api::FETCH, (4, 12), 12, Rule::Each(forms::FETCH)),
    governed(2, (1, 9), 6, Rule::Each(forms::LIST_OFFSETS)),
    // Up to version 3 brokers see version 4: before it, asking for a topic creates it.
    governed(api::METADATA, (0, 9), 9, Rule::Each(forms::METADATA)),
    governed(8, (2, 9), 8, Rule::Each(forms::OFFSET_COMMIT)),
    governed(9, (2, 7), 6, Rule::Each(forms::OFFSET_FETCH)),
    one(
        api::FIND_COORDINATOR,
        (0, 3),
        3,
        Subject::Coordinator,
        forms::FIND_COORDINATOR,
    ),
    one(11, (2, 9), 6, Subject::Group, forms::JOIN_GROUP),
    one(12, (0, 4), 4, Subject::Group, forms::HEARTBEAT),
    one(13, (0, 5), 4, Subject::Group, forms::LEAVE_GROUP),
    one(14, (0, 5), 4, Subject::Group, forms::SYNC_GROUP),
    governed(15, (0, 5), 5, Rule::Each(forms::DESCRIBE_GROUPS)),
    // Version 0 is followed by frames that are no requests, if the broker sees it so too.
    governed(api::SASL_HANDSHAKE, (1, 1), 2, Rule::Free),
    free(api::API_VERSIONS, 4),
    governed(19, (2, 6), 5, Rule::Each(forms::CREATE_TOPICS)),
    one(22, (0, 5), 2, Subject::Producer, forms::INIT_PRODUCER_ID),
    governed(23, (2, 4), 4, Rule::Each(forms::OFFSET_FOR_LEADER_EPOCH)),
    free(36, 2),
    free(api::DESCRIBE_CLUSTER, 2),
];

/// The carried request of this key.
pub(crate) fn find(key: i16) -> Option<&'static Governed> {
    let at = GOVERNED
        .binary_search_by_key(&key, |governed| governed.key)
        .ok()?;
    GOVERNED.get(at)
}

#[cfg(test)]
pub(super) fn each() -> impl Iterator<Item = &'static Governed> {
    GOVERNED.iter()
}
