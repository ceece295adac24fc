//! The processes that hold a socket open, and what selectors say about them.

use std::{collections::HashMap, io};

use procfs::process::{FDTarget, Process as ProcDirectory, all_processes};
use renkei_runtime::{attest::Attestors, process::Process};
use renkei_site::Selector;

use super::{SocketOwner, proc_net::io_error, reading::SharedReading};

/// The processes that hold each socket, by the socket's inode.
type Holders = HashMap<u64, Vec<i32>>;

static HOLDERS: SharedReading<Holders> = SharedReading::new();

/// Every process that holds the socket must satisfy every selector: one that does lends its
/// identity to no other process that shares the socket.
pub(super) fn check(
    selectors: &[Selector],
    owner: &SocketOwner,
    attestors: &Attestors,
) -> Result<(), String> {
    let holders = HOLDERS.get(read).map_err(|error| error.to_string())?;
    let found = holders
        .get(&owner.inode)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if found.is_empty() {
        return Err("no process that may be examined from here holds the connection".to_owned());
    }
    found
        .iter()
        .try_for_each(|pid| check_process(*pid, selectors, owner, attestors))
}

fn check_process(
    pid: i32,
    selectors: &[Selector],
    owner: &SocketOwner,
    attestors: &Attestors,
) -> Result<(), String> {
    let process = Process::open(pid).map_err(|error| error.to_string())?;
    let examined = attestors
        .examine(&process, selectors)
        .map_err(|error| error.to_string())?;
    // The ID was found before the handle was opened: is it still the holder?
    let still_holds = ProcDirectory::new(pid).is_ok_and(|directory| {
        sockets(&directory).is_ok_and(|inodes| inodes.contains(&owner.inode))
    });
    if !still_holds {
        return Err(format!("process {pid} no longer holds the connection"));
    }
    process.check_alive().map_err(|error| error.to_string())?;
    examined
        .matches(selectors)
        .map_err(|mismatch| mismatch.to_string())
}

fn read() -> io::Result<Holders> {
    let mut holders = Holders::new();
    // Processes that end meanwhile, or are not ours to look at, are skipped.
    for process in all_processes().map_err(io_error)?.flatten() {
        for inode in sockets(&process).unwrap_or_default() {
            holders.entry(inode).or_default().push(process.pid());
        }
    }
    holders.values_mut().for_each(Vec::dedup);
    Ok(holders)
}

fn sockets(process: &ProcDirectory) -> io::Result<Vec<u64>> {
    let files = process.fd().map_err(io_error)?;
    let inode = |target| match target {
        FDTarget::Socket(inode) => Some(inode),
        _ => None,
    };
    Ok(files
        .flatten()
        .filter_map(|file| inode(file.target))
        .collect())
}
