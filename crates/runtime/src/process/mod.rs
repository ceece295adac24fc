//! Which process is this, and what does the kernel say about it.
//!
//! A [`Process`] is a handle to one process, taken from a unix socket's peer or from a process
//! ID. It stays bound to that very process: a pidfd where the kernel has one, a directory handle
//! of `/proc/PID`, and the start time that is compared after reading close the race against a
//! reused process ID. [`Process::facts`] reads what is asked about; [`attest`](crate::attest)
//! compares it with selectors.
//!
//! User and group of a socket's peer are those it had when it connected, as the kernel recorded
//! them. A process whose user has changed since (a set-user-ID program it turned into) is
//! refused. What the kernel cannot tell: whether a process has handed its connection to another
//! one of the same user; the user ID is the boundary.
//!
//! Everything here may block on files or the user database: call it where blocking is allowed.

mod asked;
mod examine;
mod executable;
mod facts;
mod namespace;
mod users;

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{getsockopt, sockopt},
};
use procfs::{ProcError, process::Process as ProcDirectory};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

pub use asked::Asked;
pub use executable::Digests;
pub use facts::{Executable, ProcessFacts};
pub use namespace::{IdKind, indistinct, never_matches};
pub use users::{group_id, user_id, user_name};

/// Why nothing can be said about a process.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// The kernel does not say who the peer is.
    #[error("the kernel names no peer process for this socket: {0}")]
    NoPeer(String),
    /// Ended, or its ID has gone to another process.
    #[error("process {0} has ended")]
    Gone(i32),
    /// The user or group is no longer that of the time of connecting.
    #[error("process {pid} connected as user {then} and is now user {now}")]
    UserChanged {
        /// The ID of the process.
        pid: i32,
        /// User ID at the time of connecting.
        then: u32,
        /// The user ID that it has now.
        now: u32,
    },
    /// `/proc` cannot be read.
    #[error("process {pid} cannot be examined: {reason}")]
    Unreadable {
        /// The ID of the process.
        pid: i32,
        /// What the system says.
        reason: String,
    },
}

/// A handle to one process. It never comes to mean another one.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    uid: u32,
    gid: u32,
    /// In clock ticks since boot: field 22 of `/proc/PID/stat`.
    start_time: u64,
    pidfd: Option<OwnedFd>,
    directory: Arc<ProcDirectory>,
}

impl Process {
    /// The process that connected to a unix socket.
    pub fn peer_of(socket: impl AsFd) -> Result<Self, AttestError> {
        let no_peer = |error: &dyn std::fmt::Display| AttestError::NoPeer(error.to_string());
        let credentials =
            getsockopt(&socket, sockopt::PeerCredentials).map_err(|error| no_peer(&error))?;
        let pid = credentials.pid();
        if pid <= 0 {
            return Err(no_peer(&"it is not visible from here"));
        }
        // Refers to the process that connected, even if its ID has been reused since. Kernels
        // before 6.5 have no such option; there the start time alone guards.
        let pidfd = match getsockopt(&socket, sockopt::PeerPidfd) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::ENOPROTOOPT) => None,
            Err(_) => return Err(AttestError::Gone(pid)),
        };
        let user = (credentials.uid(), credentials.gid());
        Self::open_with(pid, pidfd, Some(user))
    }

    /// A process by its ID, with the user and group it has now. The caller knows by other means
    /// that the ID was this process's a moment ago, and must check that again afterwards.
    pub fn open(pid: i32) -> Result<Self, AttestError> {
        Self::open_with(pid, None, None)
    }

    /// Without `connected_as`, user and group are those of the process that the handle is for, now.
    fn open_with(
        pid: i32,
        pidfd: Option<OwnedFd>,
        connected_as: Option<(u32, u32)>,
    ) -> Result<Self, AttestError> {
        let pidfd = pidfd.or_else(|| pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok());
        let directory = open_directory(pid)?;
        let start_time = directory
            .stat()
            .map_err(|error| unreadable(pid, &error))?
            .starttime;
        let (uid, gid) = match connected_as {
            Some(user) => user,
            None => {
                let status = directory.status();
                let status = status.map_err(|error| unreadable(pid, &error))?;
                (status.euid, status.egid)
            }
        };
        let process = Self {
            pid,
            uid,
            gid,
            start_time,
            pidfd,
            directory: directory.into(),
        };
        process.check_alive()?;
        Ok(process)
    }

    /// The ID of the process that made the connection.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// User ID; for a socket's peer that of the time of connecting.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// What the kernel calls the program that it runs. The file is not looked at.
    ///
    /// # Errors
    /// When this process may not know.
    pub fn program(&self) -> Result<PathBuf, AttestError> {
        let read = self.directory.exe();
        read.map_err(|error| unreadable(self.pid, &error))
    }

    /// Whether the process still runs and is the one that this handle was made for.
    pub fn check_alive(&self) -> Result<(), AttestError> {
        let gone = AttestError::Gone(self.pid);
        if self.pidfd.as_ref().is_some_and(has_ended) {
            return Err(gone);
        }
        match self.directory.stat() {
            Ok(stat) if stat.starttime == self.start_time && !matches!(stat.state, 'Z' | 'X') => {
                Ok(())
            }
            Ok(_) => Err(gone),
            Err(error) => Err(unreadable(self.pid, &error)),
        }
    }

    /// Reads what there is to know. The executable is looked at only as far as it is asked for:
    /// it lies where a stranger chose, on a file system that may be slow, and may be large.
    pub fn facts(&self, digests: &Digests, asked: &Asked) -> Result<ProcessFacts, AttestError> {
        let facts = examine::read(self, digests, asked)?;
        self.check_alive()?;
        Ok(facts)
    }
}

/// All facts about the process at the other end of an accepted unix socket.
pub fn peer_of(socket: &UnixStream) -> Result<ProcessFacts, AttestError> {
    Process::peer_of(socket)?.facts(&Digests::default(), &Asked::ALL)
}

/// A pidfd becomes readable when its process ends (pidfd_open(2)).
fn has_ended(pidfd: &OwnedFd) -> bool {
    let at_once = Timespec::try_from(Duration::ZERO).ok();
    let mut asked = [PollFd::new(pidfd, PollFlags::IN)];
    !matches!(poll(&mut asked, at_once.as_ref()), Ok(0))
}

fn open_directory(pid: i32) -> Result<ProcDirectory, AttestError> {
    ProcDirectory::new(pid).map_err(|error| unreadable(pid, &error))
}

fn unreadable(pid: i32, error: &ProcError) -> AttestError {
    // ESRCH comes from a directory handle whose process has ended.
    const NO_SUCH_PROCESS: Option<i32> = Some(3);
    match error {
        ProcError::NotFound(_) => AttestError::Gone(pid),
        ProcError::Io(error, _) if error.raw_os_error() == NO_SUCH_PROCESS => {
            AttestError::Gone(pid)
        }
        error => AttestError::Unreadable {
            pid,
            reason: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
