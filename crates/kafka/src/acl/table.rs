//! The requests that are carried while topic rights are in force, and what they need.
//!
//! Versions are those that name topics by name: an id means nothing to a rule, and a newer name for
//! the same topic would have to be guessed. The lowest is the lowest there ever was. The broker
//! decides which of those it still takes.

use super::{
    rule::{Each, Governed, Rule, Subject},
    shown,
};
use crate::{
    api,
    form::{List, groups, layout::Versioned, topics},
    rights::Right,
};

const fn governed(key: i16, versions: (i16, i16), rule: Rule) -> Governed {
    Governed {
        api: api::listed(key),
        min_version: versions.0,
        max_version: versions.1,
        rule,
    }
}

const fn free(key: i16, max: i16) -> Governed {
    governed(key, (0, max), Rule::Free)
}

const fn one(key: i16, max: i16, subject: Subject) -> Governed {
    governed(key, (0, max), Rule::One(subject))
}

const fn each(key: i16, max: i16, right: Right, list: &'static List) -> Governed {
    governed(key, (0, max), Rule::Each(of(right, list)))
}

const fn of(right: Right, list: &'static List) -> Each {
    Each {
        right,
        list,
        shown: None,
        group_denied: None,
    }
}

/// The requests that are carried, in order of their keys.
static GOVERNED: &[Governed] = &[
    each(api::PRODUCE, 9, Right::Produce, &topics::PRODUCE),
    each(api::FETCH, 12, Right::Consume, &topics::FETCH),
    each(2, 11, Right::Describe, &topics::LIST_OFFSETS),
    // Up to version 3 brokers see version 4: before it, asking for a topic creates it.
    governed(
        api::METADATA,
        (0, 9),
        Rule::Each(Each {
            shown: Some(shown::METADATA),
            ..of(Right::Describe, &topics::METADATA)
        }),
    ),
    each(8, 9, Right::Consume, &groups::OFFSET_COMMIT),
    governed(
        9,
        (0, 7),
        Rule::Each(Each {
            shown: Some(shown::OFFSET_FETCH),
            group_denied: Some(Versioned::since(2, groups::OFFSET_FETCH_GROUP_DENIED)),
            ..of(Right::Describe, &groups::OFFSET_FETCH)
        }),
    ),
    one(api::FIND_COORDINATOR, 3, Subject::Coordinator),
    one(11, 9, Subject::Group),
    one(12, 4, Subject::Group),
    one(13, 5, Subject::Group),
    one(14, 5, Subject::Group),
    each(15, 6, Right::Group, &groups::DESCRIBE_GROUPS),
    // Version 0 is followed by frames that are no requests, if the broker sees it so too.
    governed(api::SASL_HANDSHAKE, (1, 1), Rule::Free),
    free(api::API_VERSIONS, 5),
    each(19, 7, Right::Create, &topics::CREATE_TOPICS),
    one(22, 5, Subject::Producer),
    each(23, 4, Right::Describe, &topics::OFFSET_FOR_LEADER_EPOCH),
    free(36, 2),
    free(api::DESCRIBE_CLUSTER, 2),
];

/// The carried request of this key.
pub(crate) fn find(key: i16) -> Option<&'static Governed> {
    let at = GOVERNED
        .binary_search_by_key(&key, |governed| governed.api.key)
        .ok()?;
    GOVERNED.get(at)
}

#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = &'static Governed> {
    GOVERNED.iter()
}
