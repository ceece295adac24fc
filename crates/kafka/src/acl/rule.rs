//! What a request needs by the rights of topics and groups.

use crate::{
    api::Api,
    form::{
        List,
        layout::{Field, Versioned},
        writer::Part,
    },
    rights::Right,
};

/// A request that is carried.
#[derive(Debug)]
pub(crate) struct Governed {
    pub(crate) api: &'static Api,
    pub(crate) min_version: i16,
    pub(crate) max_version: i16,
    pub(super) rule: Rule,
}

/// What a request needs.
#[derive(Debug)]
pub(super) enum Rule {
    /// It needs no right.
    Free,
    /// A right to the one thing that it names first.
    One(Subject),
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

/// A list of topics or groups within a request.
#[derive(Debug)]
pub(super) struct Each {
    pub(super) right: Right,
    pub(super) list: &'static List,
    /// The answer as brokers write it, where what may not be seen is left out.
    pub(super) shown: Option<Shown>,
    /// The whole answer, should the group be denied, in the versions that have one.
    pub(super) group_denied: Option<Versioned<&'static [Versioned<Part>]>>,
}

/// A list in an answer.
#[derive(Debug)]
pub(super) struct Shown {
    /// The answer up to it.
    pub(super) before: &'static [Versioned<Field>],
    pub(super) element: &'static [Versioned<Field>],
}
