//! Why a session ended before its peers closed it.

use crate::limits::{MAX_FRAME, MAX_REWRITTEN};
use crate::wire::WireFault;

/// Who sent what a session could not go on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    /// The client, at the local site.
    Client,
    /// The broker, as reached through the peer's gateway.
    Broker,
    /// Neither: this site's own endpoints.
    Own,
}

/// A session that cannot go on: forward what was put out so far, then close both connections.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The client opened with a TLS record.
    #[error(
        "the client speaks TLS to a local listener: set security.protocol=PLAINTEXT (or \
         SASL_PLAINTEXT); the mesh encrypts"
    )]
    ClientSpeaksTls,
    /// The broker answered with a TLS record.
    #[error(
        "the broker answered with TLS: the service's backend must be a PLAINTEXT or \
         SASL_PLAINTEXT listener; the mesh encrypts"
    )]
    BrokerSpeaksTls,
    /// A frame longer than any allowed, or of negative length.
    #[error("the {} sent a frame of {length} bytes; the limit is {MAX_FRAME}", name(*.from))]
    FrameLength {
        /// Who sent it.
        from: Party,
        /// The length it claims.
        length: i32,
    },
    /// A frame too short for its header.
    #[error("the {} sent a frame of {length} bytes, too short for a header", name(*.from))]
    ShortFrame {
        /// Who sent it.
        from: Party,
        /// The length it claims.
        length: usize,
    },
    /// A request that is not carried, and that cannot be answered: the message definitions do not
    /// have it, it has no answer, or it is too long to be read.
    #[error("request {key} version {version} is not carried; the client was not offered it")]
    UnsupportedRequest {
        /// The kind of request.
        key: i16,
        /// The version of the request.
        version: i16,
    },
    /// A request whose first fields cannot be read.
    #[error("malformed {api} request: {fault}")]
    MalformedRequest {
        /// The kind of request.
        api: &'static str,
        /// What is wrong.
        fault: WireFault,
    },
    /// A request whose header does not end.
    #[error("the header of a {api} request is longer than any client needs")]
    LongHeader {
        /// The kind of request.
        api: &'static str,
    },
    /// A request that topic rights have to be checked in, and that is too long for it.
    #[error("a {api} request of {length} bytes is too long to check; the limit is {MAX_REWRITTEN}")]
    LongRequest {
        /// The kind of request.
        api: &'static str,
        /// The length that it gives, in bytes.
        length: usize,
    },
    /// All of it must be there before any of it is sent, and it does not come.
    #[error("{length} bytes that must be read as a whole did not arrive in time")]
    Slow {
        /// The length that it gives, in bytes.
        length: usize,
    },
    /// A Produce request without an answer that topic rights deny.
    #[error(
        "it sent a Produce request with acks=0 that its topic rights do not allow, and closing is \
         all that its client can notice"
    )]
    DeniedWithoutAcks,
    /// More requests without an answer than any client sends.
    #[error("the client has too many requests without an answer")]
    InFlight,
    /// Bytes that came before the broker agreed to the SASL mechanism.
    #[error("the client went on before the broker agreed to its SASL mechanism")]
    SaslOutOfTurn,
    /// An answer without a request.
    #[error("the broker sent an answer with correlation id {got}, awaited was {awaited:?}")]
    Correlation {
        /// The correlation id of the oldest request without an answer.
        awaited: Option<i32>,
        /// The correlation id that came.
        got: i32,
    },
    /// An answer that would have to be rewritten and is too long for it.
    #[error("a {api} answer of {length} bytes is too long; the limit is {MAX_REWRITTEN}")]
    LongAnswer {
        /// What it answers.
        api: &'static str,
        /// The length that it gives, in bytes.
        length: usize,
    },
    /// An answer that cannot be read.
    #[error("malformed {api} answer: {fault}")]
    MalformedAnswer {
        /// What it answers.
        api: &'static str,
        /// What is wrong.
        fault: WireFault,
    },
    /// A broker for which this site has no listener.
    #[error("no local listener for broker {node}")]
    NoEndpoint {
        /// The broker's node id.
        node: i32,
    },
}

impl SessionError {
    /// A short, stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::ClientSpeaksTls => "client_speaks_tls",
            Self::BrokerSpeaksTls => "broker_speaks_tls",
            Self::FrameLength { .. } => "frame_length",
            Self::ShortFrame { .. } => "short_frame",
            Self::UnsupportedRequest { .. } => "unsupported_request",
            Self::MalformedRequest { .. } => "malformed_request",
            Self::LongHeader { .. } => "long_header",
            Self::LongRequest { .. } => "long_request",
            Self::Slow { .. } => "slow",
            Self::DeniedWithoutAcks => "denied_without_acks",
            Self::InFlight => "in_flight",
            Self::SaslOutOfTurn => "sasl_out_of_turn",
            Self::Correlation { .. } => "correlation",
            Self::LongAnswer { .. } => "long_answer",
            Self::MalformedAnswer { .. } => "malformed_answer",
            Self::NoEndpoint { .. } => "no_endpoint",
        }
    }

    /// Whose doing it is.
    pub fn blame(&self) -> Party {
        match self {
            Self::FrameLength { from, .. } | Self::ShortFrame { from, .. } => *from,
            Self::BrokerSpeaksTls
            | Self::Correlation { .. }
            | Self::LongAnswer { .. }
            | Self::MalformedAnswer { .. } => Party::Broker,
            Self::NoEndpoint { .. } => Party::Own,
            Self::ClientSpeaksTls
            | Self::UnsupportedRequest { .. }
            | Self::MalformedRequest { .. }
            | Self::LongHeader { .. }
            | Self::LongRequest { .. }
            | Self::Slow { .. }
            | Self::DeniedWithoutAcks
            | Self::InFlight
            | Self::SaslOutOfTurn => Party::Client,
        }
    }
}

fn name(side: Party) -> &'static str {
    match side {
        Party::Client => "client",
        Party::Broker => "broker",
        Party::Own => "proxy",
    }
}
