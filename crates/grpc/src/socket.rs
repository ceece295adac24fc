//! The socket's file: a stale one is replaced, a live one respected.

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
use rustix::{
    fs::{Mode, fchmod},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, listen, socket_with},
};
use tokio::net::UnixListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process serves there.
    #[error("another process already serves the {service} at {path}")]
    InUse {
        /// What is served.
        service: &'static str,
        /// The path of the socket.
        path: PathBuf,
    },
    /// There is something else, which is left alone.
    #[error("{0} exists and is not a socket")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("the {service} socket {path} cannot be opened: {error}")]
    Io {
        /// What is served.
        service: &'static str,
        /// The path of the socket.
        path: PathBuf,
        /// What the system says. A path of more than 107 bytes is an invalid input.
        error: io::Error,
    },
}

/// An open socket. Its file goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: a successor's file at the same path is not ours to remove.
    file: Option<(u64, u64)>,
}

impl Socket {
    pub(crate) fn open(
        service: &'static str,
        path: PathBuf,
        mode: u32,
    ) -> Result<Self, SocketError> {
        let owned = path.clone();
        // A process that is stopped does not answer at its socket.
        let removed = files::run(&path, move || Ok(remove_stale(service, &owned)));
        let failed = |error| SocketError::Io {
            service,
            path: path.clone(),
            error,
        };
        removed.map_err(failed)??;
        let owned = path.clone();
        let opened = files::run(&path, move || {
            let listener = bind(&owned, mode)?;
            // The umask has taken bits away.
            fs::set_permissions(&owned, fs::Permissions::from_mode(mode))?;
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

/// The mode is set before the name exists, so the socket is never more open than that.
fn bind(path: &Path, mode: u32) -> io::Result<net::UnixListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// Removes a socket that no process serves any more, as one that was killed leaves it.
fn remove_stale(service: &'static str, path: &Path) -> Result<(), SocketError> {
    let failed = |error| SocketError::Io {
        service,
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
        Ok(_) => Err(SocketError::InUse {
            service,
            path: path.to_owned(),
        }),
    }
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
            let socket = Socket::open(SERVICE, path.clone(), wanted).unwrap();
            assert_eq!(mode(&path), wanted);
            drop(socket);
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        drop(net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as a process that was killed leaves it");
        let live = Socket::open(SERVICE, path.clone(), 0o666).unwrap();
        let error = Socket::open(SERVICE, path.clone(), 0o666).unwrap_err();
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
        drop(live);
        fs::write(&path, "precious").unwrap();
        let error = Socket::open(SERVICE, path.clone(), 0o666).unwrap_err();
        assert!(matches!(error, SocketError::NotASocket(_)), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let absent = folder.path().join("absent/a.sock");
        let error = Socket::open(SERVICE, absent, 0o666).unwrap_err();
        assert!(error.to_string().contains("cannot be opened"), "{error}");
    }
}
