//! What can go wrong between a node and its server.

use renkei_site::HostPort;
use renkei_spiffe::{HandshakeRefusal, PeerError, SpiffeId, TrustDomain};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tonic::{Code, Status};

use super::{ANSWER_TIME, CONNECT_TIME};
use crate::certificate::CertificateError;

/// Why there is no connection to the server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The address does not answer.
    #[error("the server {server} cannot be reached: {reason}")]
    Unreachable {
        /// The address that was dialled.
        server: HostPort,
        /// What the system says.
        reason: String,
    },
    /// There was no answer within the time limit.
    #[error("the server {server} did not answer within {} s", CONNECT_TIME.as_secs())]
    Timeout {
        /// The address that was dialled.
        server: HostPort,
    },
    /// Its certificate is not that of the site's server.
    #[error("{server} is not the server of this site: {refusal}")]
    NotTheServer {
        /// The address that was dialled.
        server: HostPort,
        /// What is wrong with its certificate.
        refusal: HandshakeRefusal,
    },
    /// It does not have the CA that the token names.
    #[error("{0} does not have the CA that the token names")]
    OtherCa(HostPort),
    /// The TLS handshake failed at the other end.
    #[error("no TLS with the server {server}: {reason}")]
    Tls {
        /// The address that was dialled.
        server: HostPort,
        /// What was received instead.
        reason: String,
    },
}

impl ConnectError {
    fn hint(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } => {
                "is the server running, and may this machine connect to that port? `advertise` \
                 under `server` of the site file says where nodes come to"
            }
            Self::NotTheServer {
                refusal:
                    HandshakeRefusal::Peer(PeerError::Expired { .. } | PeerError::NotYetValid { .. }),
                ..
            } => "compare the clock of this machine with that of the server",
            Self::OtherCa(_) => {
                "check the address; if it is right, make a new token: the server's CA has changed \
                 since, or something else answers at this address"
            }
            Self::NotTheServer { .. } | Self::Tls { .. } => {
                "the address must be that of the server's API, as `renkei node token` prints it, or \
                 that of the SPIRE server that --trust-bundle is of"
            }
        }
    }
}

/// Why a machine has not become a node.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The server was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server takes no node for this token.
    #[error("the server refuses this node: {}", .0.message())]
    Refused(Box<Status>),
    /// The server could not do it now.
    #[error("the server cannot take this node now: {}", .0.message())]
    Failed(Box<Status>),
    /// The server did not answer in time.
    #[error("the server did not answer within {} s", ANSWER_TIME.as_secs())]
    Timeout,
    /// The answer is not that of the protocol.
    #[error("the server's answer is not understood: {0}")]
    Answer(&'static str),
    /// No certificate came of it.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate does not lead to the server's own CA.
    #[error("the certificate from the server does not verify here: {0}")]
    Unverifiable(#[source] PeerError),
    /// The certificate is not that of a node.
    #[error("the server sent an SVID of {0}, which is not the ID of a node")]
    NotANode(SpiffeId),
}

impl JoinError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Connect(error) => error.hint(),
            Self::Refused(status) if status.code() == Code::ResourceExhausted => {
                "wait a minute, and try again"
            }
            Self::Refused(_) | Self::NotANode(_) => {
                "a token is for one use and a short time: make another one at the server with \
                 `renkei node token site.yaml --name NAME`, or at a SPIRE server with \
                 `spire-server token generate`"
            }
            Self::Failed(_) | Self::Timeout => {
                "see the log of the server; the token may be used up by this attempt"
            }
            Self::Unverifiable(PeerError::Expired { .. } | PeerError::NotYetValid { .. }) => {
                "compare the clock of this machine with that of the server"
            }
            Self::Answer(_) | Self::Certificate(_) | Self::Unverifiable(_) => {
                "the releases of server and node may be at most one minor version apart"
            }
        }
    }
}

/// Why a node is without its server. What it has stays in force.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The server was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server ends the stream, or refuses it.
    #[error("the server answers {:?}: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// The server did not answer in time.
    #[error("the server did not answer within {} s", ANSWER_TIME.as_secs())]
    Timeout,
    /// The server ended the stream.
    #[error("the server ended the connection")]
    Ended,
    /// The node's own SVID was not renewed in time.
    #[error(
        "the SVID of this node expired at {}: make a new token at the server, and join again",
        .0.format(&Rfc3339).unwrap_or_default()
    )]
    Expired(OffsetDateTime),
    /// No new certificate for the node came.
    #[error("the SVID of this node was not renewed: {0}")]
    Renewal(#[from] RenewalError),
}

/// Why the node's own SVID was not renewed.
#[derive(Debug, thiserror::Error)]
pub enum RenewalError {
    /// The answer is not that of the protocol.
    #[error("the answer has no SVID")]
    Answer,
    /// No certificate came of it.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate does not lead to the bundle of the own trust domain.
    #[error("it does not verify here: {0}")]
    Unverifiable(#[source] PeerError),
    /// The certificate is another node's.
    #[error("the server sent an SVID of {0}")]
    OtherId(SpiffeId),
}

impl From<Status> for LinkError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

/// Why a part of a configuration cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PartError {
    #[error("it cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is of {0}")]
    OtherTrustDomain(TrustDomain),
    #[error("it cannot be read: {0}")]
    Bundle(#[from] renkei_spiffe::DocumentError),
    #[error("the name of a trust domain cannot be read: {0}")]
    Name(#[from] renkei_spiffe::IdError),
    #[error("the bundle of this site has no X.509 authorities")]
    NoAuthorities,
}
