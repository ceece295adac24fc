//! The socket's file: opened for everyone, a stale one replaced, a live one respected.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{self, UnixStream},
    },
    path::{Path, PathBuf},
};

use renkei_runtime::files;
use tokio::net::UnixListener;

/// Everyone may connect; attestation decides.
const MODE: u32 = 0o666;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another agent serves there.
    #[error("another process already serves the Workload API at {0}")]
    InUse(PathBuf),
    /// There is something else, which is left alone.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("the Workload API socket {path} cannot be opened: {error}")]
    Io {
        /// The path of the Workload API's socket.
        path: PathBuf,
        /// What the system says. A path of more than 107 bytes is an invalid input.
        error: io::Error,
    },
}

/// An open socket. Its file goes when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: a successor's file at the same path is not ours to remove.
    file: Option<(u64, u64)>,
}

impl Socket {
    pub(super) fn open(path: PathBuf) -> Result<Self, SocketError> {
        let owned = path.clone();
        // A process that is stopped does not answer at its socket.
        let removed = files::run(&path, move || Ok(remove_stale(&owned)));
        let failed = |error| SocketError::Io {
            path: path.clone(),
            error,
        };
        removed.map_err(failed)??;
        let owned = path.clone();
        let opened = files::run(&path, move || {
            let listener = net::UnixListener::bind(&owned)?;
            listener.set_nonblocking(true)?;
            fs::set_permissions(&owned, fs::Permissions::from_mode(MODE))?;
            Ok((listener, identity(&owned)))
        });
        let (listener, file) = opened.map_err(failed)?;
        let listener = UnixListener::from_std(listener).map_err(failed)?;
        Ok(Self {
            listener,
            path,
            file,
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let (path, file) = (self.path.clone(), self.file);
        let _ = files::run(&self.path, move || {
            if file.is_some() && identity(&path) == file {
                fs::remove_file(&path)?;
            }
            Ok(())
        });
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path)
        .ok()
        .map(|file| (file.dev(), file.ino()))
}

/// Removes a socket that nobody serves any more, as an agent that was killed leaves it.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |error| SocketError::Io {
        path: path.to_owned(),
        error,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
    }
}
