//! The same question asked of `/proc/net/tcp`, where netlink is not to be had. It reads the whole
//! table, so callers share readings.

use std::{collections::HashMap, io, net::SocketAddr};

use procfs::{ProcError, net::TcpNetEntry};

use super::{SocketOwner, canonical, reading::SharedReading};

/// Local and remote address of every TCP socket, and whose it is.
type Table = HashMap<(SocketAddr, SocketAddr), SocketOwner>;

static TABLE: SharedReading<Table> = SharedReading::new();

pub(super) fn lookup(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<SocketOwner>> {
    Ok(TABLE.get(read)?.get(&(peer, local)).copied())
}

fn read() -> io::Result<Table> {
    let mut entries = procfs::net::tcp().map_err(io_error)?;
    match procfs::net::tcp6() {
        Ok(more) => entries.extend(more),
        Err(ProcError::NotFound(_)) => {}
        Err(error) => return Err(io_error(error)),
    }
    Ok(entries.iter().map(row).collect())
}

fn row(entry: &TcpNetEntry) -> ((SocketAddr, SocketAddr), SocketOwner) {
    let ends = (
        canonical(entry.local_address),
        canonical(entry.remote_address),
    );
    (
        ends,
        SocketOwner {
            uid: entry.uid,
            inode: entry.inode,
        },
    )
}

pub(super) fn io_error(error: ProcError) -> io::Error {
    match error {
        ProcError::Io(error, _) => error,
        error => io::Error::other(error.to_string()),
    }
}
