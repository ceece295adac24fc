//! The requests that are carried while topic rights are in force, and what they need.
//!
//! Versions are those that name topics by name, from the first that Kafka 4 still understands:
//! an id means nothing to a rule, and a newer name for the same topic would have to be guessed.

use super::{
    forms,
    layout::Versioned,
    rule::{Governed, Part, Rule, Subject},
};
use crate::api;

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
