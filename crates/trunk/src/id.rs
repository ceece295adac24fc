//! Names of trunks, lanes and streams on the wire.

use std::fmt;

/// Which end of the trunk this is: the one that opens lanes, or the one that takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrunkSide {
    /// Opens the lanes; its streams have even numbers.
    Dialer,
    /// Takes the lanes; its streams have odd numbers.
    Acceptor,
}

impl TrunkSide {
    /// The other end.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Dialer => Self::Acceptor,
            Self::Acceptor => Self::Dialer,
        }
    }
}

/// Names a trunk: random bytes from the dialer, so that no other peer can join it by guessing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrunkId(pub [u8; 16]);

impl fmt::Debug for TrunkId {
    /// Eight hex digits: enough to find it in a log, too few to join it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{:08x}", u32::from_be_bytes([a, b, c, d]))
    }
}

/// Numbers a lane of a trunk. The dialer counts up and never uses a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub(crate) u32);

impl LaneId {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Numbers a stream: the lowest bit says which side opened it, the rest count up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u64);

impl StreamId {
    pub(crate) fn new(opener: TrunkSide, index: u64) -> Self {
        Self(index << 1 | u64::from(opener == TrunkSide::Acceptor))
    }

    /// The side that opened the stream.
    #[must_use]
    pub fn opener(self) -> TrunkSide {
        if self.0 & 1 == 0 {
            TrunkSide::Dialer
        } else {
            TrunkSide::Acceptor
        }
    }

    pub(crate) fn index(self) -> u64 {
        self.0 >> 1
    }

    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a stream, or a trunk, was ended; both ends may use any number of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u32);

impl Code {
    /// The application's connection was reset or given up.
    pub const CANCELLED: Self = Self(1);
    /// The peer broke the protocol.
    pub const VIOLATION: Self = Self(2);
    /// The process is stopping.
    pub const STOPPING: Self = Self(3);
    /// The right to talk was withdrawn.
    pub const REVOKED: Self = Self(4);
    /// The service behind the callee could not be reached.
    pub const UNREACHABLE: Self = Self(5);
    /// An end holds as many bytes as it may.
    pub const BUSY: Self = Self(6);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
