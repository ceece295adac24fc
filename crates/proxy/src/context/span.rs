//! Spans of the log: all lines about one connection name it in the same way.

use tracing::{Span, field::Empty};

use crate::identity::Pair;

/// The span of one connection. `trunk` and `stream` are filled in when it is carried in a trunk;
/// the other site logs the same two values. `flow` is its number in this process.
pub(crate) fn connection(pair: &Pair) -> Span {
    tracing::info_span!(
        "connection",
        direction = pair.direction.label(),
        caller = %pair.caller,
        callee = %pair.callee,
        flow = Empty,
        trunk = Empty,
        stream = Empty,
    )
}
