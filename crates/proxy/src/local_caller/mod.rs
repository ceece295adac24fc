//! Who owns the other end of a connection that was accepted on this machine: asked of the
//! kernel's socket tables, for that one connection, and compared with a workload's selectors.
//!
//! The kernel names the user of the socket, and its inode. User selectors need no more; the
//! others need the process, which is one of that user's that holds the socket open. A peer whose
//! address belongs to no socket of this machine is on another machine, and is refused.
//!
//! A socket is asked for by its addresses, and another process can use the same addresses a moment
//! later. What was found is the other end of our own connection, because
//! - our connection is still open after the look-up ([`crate::tcp_info`]). While it is, the kernel
//!   hands every segment with these addresses to it, and none to the listener: no other socket
//!   gets through a handshake with us.
//! - what was found is through with its handshake. A socket that tries to connect from the same
//!   addresses meanwhile (SYN_SENT) is not the other end, and one that has ended tells nothing.
//! - it has the same inode and user after its processes were examined, which takes a while, and
//!   an inode that was freed is given to the next socket.

mod attest;
mod holder;
mod proc_net;
mod reading;
mod sock_diag;

use std::{io, net::SocketAddr};

use procfs::net::TcpState;

pub use attest::{CallerError, attest, is_plainly};

/// The kernel's word on the other end of a local connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOwner {
    /// The user that opened the socket.
    pub uid: u32,
    /// The socket's inode, by which its holder is found.
    pub inode: u64,
}

/// A socket in the kernel's tables.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    state: TcpState,
    owner: SocketOwner,
}

impl Row {
    /// The owner, if the socket can be the other end of a connection that is open here: past its
    /// handshake, and at most closed for sending. One that its process has closed has no inode,
    /// and on older kernels the user 0.
    fn open(&self) -> Option<SocketOwner> {
        use TcpState::{Established, FinWait1, FinWait2};
        let open = matches!(self.state, Established | FinWait1 | FinWait2);
        (open && self.owner.inode != 0).then_some(self.owner)
    }
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
        Ok(Some(row)) => Some(row),
        // "No such socket" and "no such module" are the same error.
        Ok(None) if sock_diag::works() => None,
        Ok(None) | Err(_) => proc_net::lookup(peer, local).map_err(OwnerError::Tables)?,
    };
    match found {
        None => Err(OwnerError::Foreign(peer)),
        Some(row) => row.open().ok_or(OwnerError::Closed(peer)),
    }
}

/// Programs that open IPv6 sockets for everything (Java) appear with mapped addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
