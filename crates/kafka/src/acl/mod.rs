//! Topic rights: which requests pass, which are cut down to what is allowed, and which are
//! answered in the broker's place.
//!
//! ```text
//!   request ──▶ all that it names is allowed ──▶ passes untouched
//!           ──▶ a part is denied ──────────────▶ passes without that part; the broker's answer
//!                                                gets an element for each thing denied
//!           ──▶ all is denied ─────────────────▶ stays here; a harmless request keeps its place
//!                                                in the order, and its answer is replaced
//! ```
//!
//! Nothing is remembered about topics: every request is judged by the names in it. Versions that
//! name topics by id are not offered, nor is anything that is not in the [`table`]: cluster
//! administration, transactions, and the group protocols that name topics by id. Nor may a caller
//! fetch as a broker does.
//!
//! Fetch sessions (KIP-227) live at the broker, keyed by a number and not by who asks. With all
//! callers coming through one gateway, a number would give one caller what another may read, so
//! every Fetch is made one without a session, which clients are used to.
//!
//! A request is walked only when all of it is there, twice at most, and nothing is allocated for
//! counts. A Produce request for one topic, the usual one, passes once the name is read; record
//! batches are never copied.

mod answer;
mod judge;
mod rule;
mod shown;
mod table;
#[cfg(test)]
mod tests;
mod trim;

use bytes::Bytes;
use renkei_access::TopicRights;

use self::rule::{Each, Rule};
use crate::{api, request, rights::Denial};

pub(crate) use self::{
    answer::Amendment,
    rule::Governed,
    table::find,
    trim::{Trim, upgraded},
};

/// The first version of Metadata in which a client may ask for a topic without creating it. Its
/// answer is that of version 3. Before, it lacks the throttle time; before 2, the cluster; before 1,
/// the racks, the controller and what is internal.
const CREATION_OPTIONAL: i16 = 4;

/// A request to be judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'r> {
    pub(crate) governed: &'static Governed,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) rights: &'r TopicRights,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    /// Bytes to be overwritten in the frame first.
    pub(crate) patch: Option<(usize, &'static [u8])>,
    /// The broker is to see the first version in which creation is optional, and this wish.
    pub(crate) upgrade: Option<bool>,
    pub(crate) denials: Vec<Denial>,
}

/// What is done with a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// As it is; its answer too.
    Pass,
    /// As it is, but not its answer.
    Amend(Amendment),
    /// Without a part of it, and with an addition to its answer.
    Trim(Trim, Amendment),
    /// Not at all: this is its answer.
    Answer(Bytes),
}

/// Whether this request of this version is carried at all.
pub(crate) fn carried(key: i16) -> Option<(i16, i16)> {
    find(key).map(|governed| (governed.min_version, governed.max_version))
}

/// Which versions of a request clients learn of, if any.
///
/// ConsumerGroupHeartbeat is shown and refused: librdkafka with `group.protocol=consumer` waits
/// without an error for a broker that has it, and takes the refusal for a fatal error.
pub(crate) fn offered(key: i16) -> Option<(i16, i16)> {
    match key {
        api::CONSUMER_GROUP_HEARTBEAT => Some((0, 1)),
        _ => carried(key),
    }
}

/// Whether a feature of the cluster, as it names them, is carried. What clients do by transactions,
/// by new group protocols and by share groups is not.
pub(crate) fn carries_feature(feature: &[u8]) -> bool {
    matches!(
        feature,
        b"metadata.version" | b"kraft.version" | b"eligible.leader.replicas.version"
    )
}

impl Governed {
    /// The protocol's name for it.
    pub(crate) fn name(&self) -> &'static str {
        self.api.name
    }

    fn is_flexible(&self, version: i16) -> bool {
        self.api.is_flexible(version)
    }

    /// Whether a request is of a version that is carried. ApiVersions of the future is answered.
    pub(crate) fn carries(&self, head: &request::Head<'_>) -> bool {
        (self.min_version..=self.max_version).contains(&head.version)
            || head.detail == request::Detail::FutureApiVersions
    }

    /// Whether it needs no right.
    pub(crate) fn is_free(&self) -> bool {
        matches!(self.rule, Rule::Free)
    }

    fn list(&self) -> Option<&Each> {
        match &self.rule {
            Rule::Each(each) => Some(each),
            _ => None,
        }
    }
}

impl From<Verdict> for Judged {
    fn from(verdict: Verdict) -> Self {
        Self {
            verdict,
            patch: None,
            upgrade: None,
            denials: Vec::new(),
        }
    }
}
