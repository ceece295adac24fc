//! A unix socket that this process serves: one opener for all of them.
//!
//! The file of a socket outlives a process that is killed. So a lock next to it (`NAME.lock`) says
//! whether another process of Renkei serves there, and a socket that answers is left alone even
//! without a lock: it may be another program's. Only a socket that no process serves is replaced.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt},
        net::{self, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FlockOperation, Mode, fchmod, flock},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with},
};
use thiserror::Error;
use tokio::net::UnixListener;

use crate::{
    files,
    state_folder::{StateFolder, StateFolderError},
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;
/// The bits of a mode that are for others than the owner.
const OTHERS: u32 = 0o077;

/// Why a socket cannot be opened.
#[derive(Debug, Error)]
pub enum SocketError {
    /// A living process holds the lock, or answers at the socket.
    #[error("another process already serves the {service} at {}", path.display())]
    InUse {
        /// What is served, as it is called in sentences.
        service: &'static str,
        /// The path of the socket.
        path: PathBuf,
    },
    /// Something else has the name of the socket. It is left alone.
    #[error("{} exists and is not a socket", .0.display())]
    NotASocket(PathBuf),
    /// A socket for one user alone has to lie in a folder of that user alone.
    #[error(transparent)]
    Folder(#[from] StateFolderError),
    /// The lock cannot be opened, so it is not known whether another process serves there.
    #[error("the lock of the {service} socket, {}, cannot be used: {source}", path.display())]
    Lock {
        /// What was to be served, as it is called in sentences.
        service: &'static str,
        /// The path of the lock file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The socket cannot be made, or a stale one cannot be removed.
    #[error("the {service} socket {} cannot be opened: {source}", path.display())]
    Io {
        /// What was to be served, as it is called in sentences.
        service: &'static str,
        /// The path of the socket.
        path: PathBuf,
        /// What the system says. A path of more than 107 bytes is an invalid input.
        source: io::Error,
    },
}

impl SocketError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::InUse { .. } => "stop that process, or choose another path".to_owned(),
            Self::NotASocket(path) | Self::Lock { path, .. } => {
                format!("move {} away", path.display())
            }
            Self::Folder(error) => error.hint(),
            Self::Io { .. } => "the path of a unix socket has at most 107 bytes".to_owned(),
        }
    }
}

/// An open socket. Its file goes when it is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: another file at the same path is not ours to remove.
    file: Option<(u64, u64)>,
    /// Locked while the socket is open. The system frees it however the process ends.
    _lock: File,
}

impl UnixSocket {
    /// Opens a socket with this mode, within a tokio runtime. `service` names it in errors:
    /// "the `service` socket". A mode that lets only the owner connect (0600) asks for a folder of
    /// that user alone, which is made where it is missing. Otherwise the folder has to exist.
    ///
    /// # Errors
    /// When another process serves there, the folder is not private, or the system refuses.
    pub fn open(service: &'static str, path: &Path, mode: u32) -> Result<Self, SocketError> {
        if mode & OTHERS == 0 {
            let folder = path.parent().filter(|folder| *folder != Path::new(""));
            StateFolder::open(folder.unwrap_or(Path::new(".")))?;
        }
        let failed = |source| SocketError::Io {
            service,
            path: path.to_owned(),
            source,
        };
        let lock = lock(service, path)?;
        let owned = path.to_owned();
        // A process that is stopped does not answer at its socket.
        let removed = files::run(path, move || Ok(remove_stale(service, &owned)));
        removed.map_err(failed)??;
        let owned = path.to_owned();
        let opened = files::run(path, move || {
            let listener = bind(&owned, mode)?;
            // The umask has taken bits away.
            fs::set_permissions(&owned, fs::Permissions::from_mode(mode))?;
            Ok((listener, identity(&owned)))
        });
        let (listener, file) = opened.map_err(failed)?;
        Ok(Self {
            listener: UnixListener::from_std(listener).map_err(failed)?,
            path: path.to_owned(),
            file,
            _lock: lock,
        })
    }

    /// The listener, which does not block.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// The path as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // The lock is still taken.
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

/// Of two processes that start at once, one gets the lock.
fn lock(service: &'static str, path: &Path) -> Result<File, SocketError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let lock = path.with_file_name(name);
    let failed = |source| SocketError::Lock {
        service,
        path: lock.clone(),
        source,
    };
    let owned = lock.clone();
    let opened = files::run(&lock, move || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        files::open_with(&mut options, &owned)
    });
    let file = opened.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(SocketError::InUse {
            service,
            path: path.to_owned(),
        }),
        Err(error) => Err(failed(error.into())),
    }
}

/// Removes a socket that no process serves any more, as one that was killed leaves it.
fn remove_stale(service: &'static str, path: &Path) -> Result<(), SocketError> {
    let failed = |source| SocketError::Io {
        service,
        path: path.to_owned(),
        source,
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
        Ok(_) => Err(SocketError::InUse {
            service,
            path: path.to_owned(),
        }),
    }
}

/// The mode is set before the name exists, so the socket is never more open than that.
fn bind(path: &Path, mode: u32) -> io::Result<net::UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "test";

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_has_its_mode_and_its_file_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        for wanted in [0o600, 0o666] {
            let path = folder.path().join("a.sock");
            let socket = UnixSocket::open(SERVICE, &path, wanted).unwrap();
            assert_eq!(mode(&path), wanted);
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_socket_for_its_owner_has_a_folder_of_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let made = folder.path().join("made");
        let _socket = UnixSocket::open(SERVICE, &made.join("a.sock"), 0o600).unwrap();
        assert_eq!(mode(&made), 0o700);
        let open = folder.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let error = UnixSocket::open(SERVICE, &open.join("a.sock"), 0o600).unwrap_err();
        assert!(matches!(error, SocketError::Folder(_)), "{error}");
        UnixSocket::open(SERVICE, &open.join("a.sock"), 0o666).unwrap();
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let open = || UnixSocket::open(SERVICE, &path, 0o600);
        drop(net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a process that was killed leaves it");
        let live = open().unwrap();
        let error = open().unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        drop(live);
        // Another program's, which knows nothing of the lock.
        let other = net::UnixListener::bind(&path).unwrap();
        let error = open().unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        assert!(UnixStream::connect(&path).is_ok(), "it is still served");
        drop(other);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        let error = open().unwrap_err();
        assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let absent = folder.path().join("absent/a.sock");
        let error = UnixSocket::open(SERVICE, &absent, 0o666).unwrap_err();
        assert!(error.to_string().contains("absent/a.sock"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_starts_while_another_does_leaves_it_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        drop(net::UnixListener::bind(&path).unwrap());
        // As far as the lock: the stale socket is still there.
        let first = lock(SERVICE, &path).unwrap();
        let error = UnixSocket::open(SERVICE, &path, 0o666).unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        assert!(path.exists());
        drop(first);
        UnixSocket::open(SERVICE, &path, 0o666).unwrap();
    }
}
