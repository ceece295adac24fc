//! What a request needs by the rights of topics and groups, and the fields of an answer that
//! denies it.

use super::layout::{Field, Versioned};
use crate::rights::Right;

/// A request that is carried.
#[derive(Debug)]
pub(crate) struct Governed {
    pub(crate) key: i16,
    pub(crate) min_version: i16,
    pub(crate) max_version: i16,
    /// The first version in the compact form of KIP-482.
    pub(super) flexible: i16,
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
    /// It needs no right.
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
    /// The name of a consumer group.
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

/// A field of an answer that says no.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    I8(i8),
    I16(i16),
    I32(i32),
    I64(i64),
    /// The error code.
    Error,
    /// The partition's number.
    Index,
    /// The element's name.
    Name,
    NoText,
    NullText,
    /// An empty list, or no bytes.
    NoItems,
    Tags,
}
