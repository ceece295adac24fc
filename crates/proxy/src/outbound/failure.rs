//! Why a local workload's connection did not reach its callee, in a sentence that says what to
//! look at.

use std::io;

use renkei_kafka::SessionError;
use renkei_spiffe::SpiffeId;
use renkei_trunk::Code;

use super::Route;
use crate::{
    context::Context,
    identity::Direction,
    local_caller::CallerError,
    sessions::kafka,
    tls::DialFailure,
    trunk::{DialError, StreamRefused},
};

/// Why a connection was not opened, or ended before it began.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The process at the local listener is not the workload.
    Caller(CallerError),
    /// The local connection is gone already.
    CallerGone,
    /// The callee was not reached, or refused the connection in its handshake.
    Dial(DialFailure),
    /// What passed was not the protocol of the service.
    Session(SessionError),
    /// The callee's side did not take the connection, in its own words.
    Refused(StreamRefused),
}

impl Failure {
    /// What an error of the stream to the callee says of the callee's side, if anything.
    pub(super) fn of_stream(error: &io::Error) -> Option<Self> {
        let refused = || {
            let inner = error.get_ref()?.downcast_ref::<StreamRefused>()?;
            Some(Self::Refused(inner.clone()))
        };
        let alert = DialFailure::from_alert(error).map(Self::Dial);
        alert.or_else(refused).or_else(|| Self::of_session(error))
    }

    /// The error of a Kafka session, if this is one.
    pub(super) fn of_session(error: &io::Error) -> Option<Self> {
        kafka::session_error(error).cloned().map(Self::Session)
    }

    /// A short, stable name for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Caller(error) => error.label(),
            Self::CallerGone => "caller_closed",
            Self::Dial(failure) => failure.label(),
            Self::Session(error) => error.label(),
            Self::Refused(refused) => match refused.code {
                Code::UNREACHABLE | Code::BUSY | Code::STOPPING => "peer_unavailable",
                _ => "peer_denied",
            },
        }
    }

    /// One sentence for people.
    pub(crate) fn sentence(&self, caller: &SpiffeId, callee: &SpiffeId) -> String {
        let (from, to) = (caller.short(), callee.short());
        match self {
            Self::Caller(error) => error.to_string(),
            Self::CallerGone => "the caller closed its connection at once".to_owned(),
            Self::Dial(failure) => failure.sentence(caller, callee),
            Self::Session(error) => format!("Kafka between {from} and {to}: {error}"),
            Self::Refused(refused) => format!("{to} refused {from}: {refused}"),
        }
    }
}

/// Counts a failure, of which the name and the sentence are given.
pub(super) fn record(
    (reason, sentence): (&'static str, String),
    who: String,
    route: &Route,
    context: &Context,
) {
    let (direction, service) = (Direction::Outbound, route.target.short());
    let refusals = &context.refusals;
    refusals.record(direction, &service, who, reason, sentence);
}
