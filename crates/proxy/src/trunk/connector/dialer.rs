//! What the connector asks of its caller: to dial one more lane; and what it answers.

use std::{net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use time::OffsetDateTime;

use crate::{identity::Credentials, record::TlsConnection, trunk::TrunkStream};

/// A verified connection to a peer.
#[derive(Debug)]
pub(crate) struct LaneConnection {
    pub(crate) connection: TlsConnection,
    /// The address that was dialled.
    pub(crate) remote: SocketAddr,
    /// What both ends have shown.
    pub(crate) credentials: Arc<Credentials>,
}

impl LaneConnection {
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn()
    }
}

/// Why a connection could not be dialled, in the words of who dialled it.
pub(crate) trait DialError: std::fmt::Debug + Send + Sync + 'static {
    /// The other end spoke trunks before, and does no longer.
    fn no_trunks() -> Self;

    /// Whether the other end was not reached at all.
    fn is_of_the_path(&self) -> bool;

    /// Whether the certificates of either side are the reason, which further attempts with them
    /// do not mend.
    fn is_certain(&self) -> bool;

    /// A short, stable name.
    fn label(&self) -> &'static str;
}

/// Dials the lanes of one trunk.
pub(crate) trait LaneDialer: Send + Sync + 'static {
    type Error: DialError;

    /// Dials one more connection for the same caller and callee, with the caller's SVID of now.
    fn dial(&self) -> BoxFuture<'_, Result<LaneConnection, Self::Error>>;

    /// Whether the other end chose a trunk, by the protocol that it chose (RFC 7301).
    fn is_lane(&self, alpn: Option<&[u8]>) -> bool;

    /// Hears why a trunk that has lost every lane does not get another.
    fn failed(&self, error: &Self::Error);

    /// Hears why there is no trunk, before those that wait for one.
    fn unreached(&self, _error: &Self::Error) {}

    /// Why a dial would fail, if that is known and takes long to find out again.
    fn known_failure(&self) -> Option<Self::Error> {
        None
    }
}

/// Why a trunk was not made out of its first lane.
#[derive(Debug)]
pub(crate) enum TrunkFailure {
    /// The connection broke.
    Io(std::io::Error),
    /// The other end refused the lane, or sent no HELLO.
    Other(String),
}

/// Why no stream was opened.
#[derive(Debug)]
pub(crate) enum OpenError<E> {
    /// The other end knows no trunks; the connection that was dialled to ask it, if there is one.
    NoTrunks(Option<Box<LaneConnection>>),
    /// The lane that is being dialled takes too long.
    Timeout,
    /// No lane could be dialled.
    Dial(E),
    /// The lane did not become a trunk.
    Trunk(TrunkFailure),
}

/// A stream to a callee.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: TrunkStream,
    /// The address that the trunk's first lane was dialled to.
    pub(crate) remote: SocketAddr,
    /// What the other end chose to speak (RFC 7301).
    pub(crate) alpn: Arc<[u8]>,
    /// When this side's SVID ends by which it is opened.
    pub(crate) svid_not_after: OffsetDateTime,
}
