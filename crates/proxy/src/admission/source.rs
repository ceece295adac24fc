//! Where a connection to the gateway comes from.

use std::{fmt, net::SocketAddr};

/// The other end of a connection to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    /// The address that policies see: the other end of the TCP connection, or that of the hub or
    /// gateway.
    pub(crate) address: SocketAddr,
    /// The caller's own address, as the hub or gateway says. It is not proved, so it is for limits and
    /// logs only.
    caller: Option<SocketAddr>,
    by_link: bool,
}

impl Source {
    /// A connection from this address.
    pub(crate) fn direct(address: SocketAddr) -> Self {
        Self {
            address,
            caller: None,
            by_link: false,
        }
    }

    /// A connection that the hub or gateway at this address brings, with what it says of the caller.
    pub(crate) fn by_link(gateway: SocketAddr, caller: Option<SocketAddr>) -> Self {
        Self {
            address: gateway,
            caller,
            by_link: true,
        }
    }

    /// The caller's own address, as far as it is known.
    pub(crate) fn caller(&self) -> SocketAddr {
        self.caller.unwrap_or(self.address)
    }

    pub(crate) fn is_by_link(&self) -> bool {
        self.by_link
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by_link {
            true => write!(f, "{} by a link", self.caller()),
            false => self.address.fmt(f),
        }
    }
}
