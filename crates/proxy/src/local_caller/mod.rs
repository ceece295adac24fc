//! Who owns the other end of a connection that was accepted on this machine: asked of the
//! kernel's socket tables, for that one connection, and compared with a workload's selectors.
//!
//! The kernel names the user of the socket, and its inode. User selectors need no more; the
//! others need the process, which is one of that user's that holds the socket open. A peer whose
//! address belongs to no socket of this machine is on another machine, and is refused.

mod attest;
mod holder;
mod proc_net;
mod reading;
mod sock_diag;

use std::{io, net::SocketAddr};

pub use attest::{CallerError, attest, is_plainly};

/// The kernel's word on the other end of a local connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOwner {
    /// The user that opened the socket.
    pub uid: u32,
    /// The socket's inode, by which its holder is found.
    pub inode: u64,
}

/// Why the other end of a connection cannot be given an owner.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// No socket of this machine has that address.
    #[error("{0} is not a socket of this machine: only its own processes may use this listener")]
    Foreign(SocketAddr),
    /// The kernel no longer knows whose it was.
    #[error("the caller at {0} closed its socket before its owner could be told")]
    Closed(SocketAddr),
    /// Neither source of the tables works.
    #[error("the kernel's socket tables cannot be read: {0}")]
    Tables(#[source] io::Error),
}

/// Finds the owner of the socket at `peer` that is connected to `local`, our end.
pub fn socket_owner(peer: SocketAddr, local: SocketAddr) -> Result<SocketOwner, OwnerError> {
    let (peer, local) = (canonical(peer), canonical(local));
    let found = match sock_diag::lookup(peer, local) {
        Ok(Some(owner)) => Some(owner),
        // "No such socket" and "no such module" are the same error.
        Ok(None) if sock_diag::works() => None,
        Ok(None) | Err(_) => proc_net::lookup(peer, local).map_err(OwnerError::Tables)?,
    };
    match found {
        None => Err(OwnerError::Foreign(peer)),
        // A socket that its process has closed has no inode, and on older kernels the user 0.
        Some(owner) if owner.inode == 0 => Err(OwnerError::Closed(peer)),
        Some(owner) => Ok(owner),
    }
}

/// Programs that open IPv6 sockets for everything (Java) appear with mapped addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
