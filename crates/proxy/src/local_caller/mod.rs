//! Who owns the other end of a connection that was accepted on this machine: asked of the
//! kernel's socket tables, for that one connection, and compared with a workload's selectors.
//!
//! The kernel names the user of the socket, and its inode. User selectors need no more; the
//! others need the process, which is one of that user's that holds the socket open. A peer whose
//! address belongs to no socket of this machine is on another machine, and is refused.
//!
//! A socket is asked for by its addresses, and another process can use the same addresses a moment
//! later. What was found is the other end of our own connection, because
//! - our connection is still open after the look-up (`tcp_info.rs`). While it is, the kernel
//!   hands every segment with these addresses to it, and none to the listener: no other socket
//!   gets through a handshake with us.
//! - what was found is through with its handshake. A socket that tries to connect from the same
//!   addresses meanwhile (SYN_SENT) is not the other end, and one that has ended shows nothing.
//! - it has the same inode and user after its processes were examined, which takes a while, and
//!   an inode that was freed is given to the next socket.

mod attest;
mod closed;
mod holder;
mod proc_net;
mod reading;
mod sock_diag;

use std::{io, net::SocketAddr};

use procfs::net::TcpState;

pub use attest::CallerError;
pub(crate) use closed::{hold_ends, release_end};

/// The kernel's word on the other end of a local connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOwner {
    /// The user that opened the socket.
    pub uid: u32,
    /// The socket's inode, by which its holder is found; 0 if its process has closed it.
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
    /// handshake, and at most closed for sending. One that its process has closed has no inode.
    fn open(&self) -> Option<SocketOwner> {
        use TcpState::{Established, FinWait1, FinWait2};
        let open = match self.owner.inode {
            0 => closed::is_closed(self) && closed::keeps_user(),
            _ => matches!(self.state, Established | FinWait1 | FinWait2),
        };
        open.then_some(self.owner)
    }
}

/// Why the other end of a connection cannot be given an owner.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// No socket of this machine has that address.
    #[error("{0} is not a socket of this machine: only its own processes may use this listener")]
    Foreign(SocketAddr),
    /// The kernel no longer knows whose it was.
    #[error(
        "the caller at {0} has closed its connection: its process can no longer be examined, and \
         kernels before 6.17 no longer know its user"
    )]
    Closed(SocketAddr),
    /// Neither source of the tables works.
    #[error("the kernel's socket tables cannot be read: {0}")]
    Tables(#[source] io::Error),
}

/// The other end of an accepted connection, as it was at the first look.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    peer: SocketAddr,
    local: SocketAddr,
    /// Nothing if it was not found without blocking.
    seen: Option<SocketOwner>,
}

impl Caller {
    /// The socket at `peer` that is connected to `local`, our end. To be asked for as soon as the
    /// connection is accepted: callers may leave at any moment. Never blocks.
    pub fn at(peer: SocketAddr, local: SocketAddr) -> Self {
        let (peer, local) = (canonical(peer), canonical(local));
        let found = sock_diag::lookup(peer, local).ok().flatten();
        let seen = found.and_then(|row| row.open());
        Self { peer, local, seen }
    }

    /// Its owner; looks again if it was not found at once, which may block.
    fn owner(&self) -> Result<SocketOwner, OwnerError> {
        self.seen
            .map_or_else(|| socket_owner(self.peer, self.local), Ok)
    }
}

fn socket_owner(peer: SocketAddr, local: SocketAddr) -> Result<SocketOwner, OwnerError> {
    match find(peer, local).map_err(OwnerError::Tables)? {
        None => Err(OwnerError::Foreign(peer)),
        Some(row) => row.open().ok_or(OwnerError::Closed(peer)),
    }
}

/// The socket at `peer` that is connected to `local`, in whichever table can be read.
fn find(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Row>> {
    match sock_diag::lookup(peer, local) {
        Ok(Some(row)) => Ok(Some(row)),
        // "No such socket" and "no such module" are the same error.
        Ok(None) if sock_diag::works() => Ok(None),
        Ok(None) | Err(_) => proc_net::lookup(peer, local),
    }
}

/// Programs that open IPv6 sockets for everything (Java) appear with mapped addresses.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
