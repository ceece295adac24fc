//! Reads the facts of a process by its handle, which keeps its number from being used again.

use super::{Asked, AttestError, Digests, Process, ProcessFacts, executable, unreadable};

pub(super) fn read(
    process: &Process,
    digests: &Digests,
    asked: &Asked,
) -> Result<ProcessFacts, AttestError> {
    let status = process
        .directory
        .status()
        .map_err(|error| unreadable(process.pid, &error))?;
    if status.euid != process.uid {
        let (pid, then, now) = (process.pid, process.uid, status.euid);
        return Err(AttestError::UserChanged { pid, then, now });
    }
    Ok(ProcessFacts {
        pid: process.pid,
        uid: process.uid,
        gid: process.gid,
        groups: status.groups,
        executable: executable::read(&process.directory, digests, asked),
    })
}
