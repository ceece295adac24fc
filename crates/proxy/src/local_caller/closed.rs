//! Callers that have closed their socket, or ended, before they were attested: what writes one
//! line and exits does so before its connection is accepted.
//!
//! The kernel knows such a socket as long as it has something to send, and since Linux 6.17 its
//! user too (before, it says root for every such socket). So a caller's FIN is held back, by a
//! filter on the listener that its accepted connections inherit, until the caller was attested.
//! Then the filter goes, and the kernel sends the FIN again, 200 ms after the first time. Bytes
//! and resets pass at once; a caller that does not close at once notices nothing.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    os::{fd::AsFd, unix::fs::MetadataExt},
    sync::OnceLock,
    time::Duration,
};

use procfs::net::TcpState;
use rustix::{fs::fchown, process::geteuid};
use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use super::{Row, find};

/// Programs that are started meanwhile have a copy of every socket for a moment.
const TRIES: usize = 100;
const PAUSE: Duration = Duration::from_millis(1);

/// Holds back the FIN of every connection that this listener accepts from now on.
pub(crate) fn hold_ends(listener: &impl AsFd) {
    // Byte 13 of the TCP header has the flags (RFC 9293 3.1); FIN is the lowest.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    let filter = [
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, 0x01),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ];
    if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
        tracing::warn!(%error, "callers that write and exit at once cannot be attested");
    }
}

/// Lets the FIN of an accepted connection through.
pub(crate) fn release_end(accepted: &impl AsFd) {
    // An error means that there is no filter.
    let _ = SockRef::from(accepted).detach_filter();
}

/// Whether this kernel knows the user of a socket that its process has closed, which is tried once
/// with a socket of this process.
pub(super) fn keeps_user() -> bool {
    static KEEPS: OnceLock<bool> = OnceLock::new();
    *KEEPS.get_or_init(|| {
        let kept = try_own().unwrap_or_else(|error| {
            tracing::debug!(%error, "what the kernel says of closed sockets cannot be tried");
            false
        });
        if !kept {
            tracing::info!(
                "this kernel does not report the user of a closed socket: callers that \
                 write and exit at once are refused"
            );
        }
        kept
    })
}

fn try_own() -> io::Result<bool> {
    let listener = socket()?;
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    listener.bind(&any.into())?;
    hold_ends(&listener);
    listener.listen(1)?;
    let caller = socket()?;
    let uid = give_a_user(&caller)?;
    caller.connect(&listener.local_addr()?)?;
    let address = |socket: &Socket| socket.local_addr()?.as_socket().ok_or_else(no_address);
    let (peer, local) = (address(&caller)?, address(&listener)?);
    drop(caller);
    for _ in 0..TRIES {
        match find(peer, local)? {
            Some(row) if row.owner.inode != 0 => std::thread::sleep(PAUSE),
            Some(row) => return Ok(is_closed(&row) && row.owner.uid == uid),
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// Closed by its process, and with something to send: never a remnant (TIME_WAIT, also under the
/// name of FIN_WAIT2) which has no user.
pub(super) fn is_closed(row: &Row) -> bool {
    row.owner.inode == 0 && row.state == TcpState::FinWait1
}

/// Sees to it that the socket is of another user than the one that kernels without this knowledge
/// name: the machine's root, as the files of the kernel itself show it in this user namespace.
fn give_a_user(socket: &Socket) -> io::Result<u32> {
    #[cfg_attr(
        not(test),
        expect(clippy::disallowed_methods, reason = "the kernel answers at once")
    )]
    let root = std::fs::metadata("/proc/sys/kernel/overflowuid")?.uid();
    let own = geteuid();
    if own.as_raw() != root {
        return Ok(own.as_raw());
    }
    let other = rustix::fs::Uid::from_raw(root + 1);
    fchown(socket, Some(other), None)?;
    Ok(other.as_raw())
}

fn socket() -> io::Result<Socket> {
    Socket::new(Domain::IPV4, Type::STREAM, None)
}

fn no_address() -> io::Error {
    io::Error::other("a socket of another family")
}
