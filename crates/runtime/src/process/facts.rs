//! What is known about one process at one moment.

use std::path::PathBuf;

/// Facts about a process, read while it was alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Process ID in the PID namespace of Renkei.
    pub pid: i32,
    /// Effective user ID of the process.
    pub uid: u32,
    /// Effective group ID of the process.
    pub gid: u32,
    /// IDs of its supplementary groups, as the kernel has them.
    pub groups: Vec<u32>,
    /// The program that runs, or why that is not known: it was not asked for, or it is another
    /// user's process, seen by an agent that is not root.
    pub executable: Result<Executable, String>,
}

/// The file that a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// Its path. The file at this path is the one that runs, which was checked.
    pub path: Result<PathBuf, String>,
    /// Its SHA-256, if it was asked for.
    pub sha256: Result<[u8; 32], String>,
}
