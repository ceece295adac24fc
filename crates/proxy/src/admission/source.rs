//! Where a connection to the gateway comes from.

use std::{fmt, net::SocketAddr};

/// The other end of a connection to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    /// The address that policies see: the other end of the TCP connection, or the hub's.
    pub(crate) address: SocketAddr,
    /// The caller's own address, as this site's hub says. Nobody has proved it: it is for limits
    /// and logs only.
    caller: Option<SocketAddr>,
    through_hub: bool,
}

impl Source {
    /// A connection from this address.
    pub(crate) fn direct(address: SocketAddr) -> Self {
        Self {
            address,
            caller: None,
            through_hub: false,
        }
    }

    /// A connection that the hub at this address brings, with what it says of the caller.
    pub(crate) fn through_hub(hub: SocketAddr, caller: Option<SocketAddr>) -> Self {
        Self {
            address: hub,
            caller,
            through_hub: true,
        }
    }

    /// The caller's own address, as far as it is known.
    pub(crate) fn caller(&self) -> SocketAddr {
        self.caller.unwrap_or(self.address)
    }

    pub(crate) fn is_through_hub(&self) -> bool {
        self.through_hub
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.through_hub {
            true => write!(f, "{} through the hub", self.caller()),
            false => self.address.fmt(f),
        }
    }
}
