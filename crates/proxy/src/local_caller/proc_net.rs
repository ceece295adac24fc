//! The same question asked of `/proc/net/tcp`, where netlink is not to be had. It reads the whole
//! table, so callers share readings.

use std::{collections::HashMap, io, net::SocketAddr};

use procfs::{ProcError, net::TcpNetEntry};

use super::{Row, SocketOwner, canonical, reading::SharedReading};

/// Local and remote address of a socket.
type Ends = (SocketAddr, SocketAddr);

/// Every TCP socket. Sockets that are bound to different devices can have the same addresses.
type Table = HashMap<Ends, Vec<Row>>;

static TABLE: SharedReading<Table> = SharedReading::new();

pub(super) fn lookup(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Row>> {
    let table = TABLE.get(read)?;
    let rows = table.get(&(peer, local)).map(Vec::as_slice);
    only_one(rows.unwrap_or_default(), peer)
}

/// The one of these rows that is open, or any if none is.
fn only_one(rows: &[Row], peer: SocketAddr) -> io::Result<Option<Row>> {
    let mut open = rows.iter().filter(|row| row.open().is_some());
    let first = open.next();
    // A table that changes while it is read can show a socket twice.
    if open.any(|row| first.map(Row::open) != Some(row.open())) {
        let message = format!("several sockets have the address {peer}");
        return Err(io::Error::other(message));
    }
    Ok(first.or(rows.first()).cloned())
}

fn read() -> io::Result<Table> {
    let mut entries = procfs::net::tcp().map_err(io_error)?;
    match procfs::net::tcp6() {
        Ok(more) => entries.extend(more),
        Err(ProcError::NotFound(_)) => {}
        Err(error) => return Err(io_error(error)),
    }
    let mut table = Table::with_capacity(entries.len());
    for (ends, row) in entries.iter().map(row) {
        table.entry(ends).or_default().push(row);
    }
    Ok(table)
}

fn row(entry: &TcpNetEntry) -> (Ends, Row) {
    let ends = (
        canonical(entry.local_address),
        canonical(entry.remote_address),
    );
    let owner = SocketOwner {
        uid: entry.uid,
        inode: entry.inode,
    };
    let state = entry.state.clone();
    (ends, Row { state, owner })
}

pub(super) fn io_error(error: ProcError) -> io::Error {
    match error {
        ProcError::Io(error, _) => error,
        error => io::Error::other(error.to_string()),
    }
}
