//! Who may connect to a unix socket, or put another in its place.
//!
//! To connect takes the right to write to the socket and to search every folder on the way to it
//! (unix(7), path_resolution(7)). Group and owner are the operator's choice; everybody is not.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use thiserror::Error;

use super::walk::{Place, WRITABLE_BY_ALL, mode, walk};

const SEARCHABLE_BY_ALL: u32 = 0o001;

/// Why a unix socket is not to be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SocketFault {
    /// Nothing has this name.
    #[error("there is no such socket")]
    Missing,
    /// Something else has the name.
    #[error("it is not a socket")]
    NotASocket,
    /// Every user of the machine can connect to it.
    #[error(
        "every user of this machine can connect to it, past the mesh (mode {mode:04o}): chmod o-w \
         {path}, and set that mode at its service"
    )]
    OpenToAll {
        /// The path of the socket.
        path: String,
        /// The permissions of its file.
        mode: u32,
    },
    /// Every user of the machine can put another socket in its place.
    #[error(
        "every user of this machine can put another socket in its place, for all may write in \
         {0}: chmod o-w {0}"
    )]
    Replaceable(String),
    /// A user who is neither root nor this process's has made it where every user may.
    #[error(
        "the user {owner} has made {path} in a folder in which every user may make files: let its \
         service listen in a folder of its own"
    )]
    Foreign {
        /// The socket, or a folder on the way to it.
        path: String,
        /// The ID of the user.
        owner: u32,
    },
    /// Its permissions cannot be read.
    #[error("its permissions cannot be read: {0}")]
    Unreadable(String),
}

/// Whether the socket at an absolute path is there, and neither can be connected to nor replaced by
/// every user of the machine; only within [`files::run`](crate::files::run).
///
/// # Errors
/// When it is not so.
pub fn judge_socket(path: &Path) -> Result<(), SocketFault> {
    let walk = walk(path);
    for place in walk.places {
        match place {
            Place::Open(folder) => {
                return Err(SocketFault::Replaceable(folder.display().to_string()));
            }
            Place::Foreign(path, owner) => {
                let path = path.display().to_string();
                return Err(SocketFault::Foreign { path, owner });
            }
            // It is missing.
            Place::Free(_) => {}
        }
    }
    let real = match walk.end {
        Some(real) => real,
        None => return Err(not_there(path)),
    };
    let found = fs::symlink_metadata(&real).map_err(|error| unreadable(&error))?;
    if !found.file_type().is_socket() {
        return Err(SocketFault::NotASocket);
    }
    let mode = found.mode() & 0o7777;
    match mode & WRITABLE_BY_ALL != 0 && is_reachable_by_all(&real) {
        true => Err(SocketFault::OpenToAll {
            path: real.display().to_string(),
            mode,
        }),
        false => Ok(()),
    }
}

/// Whether every user may search all folders on the way to it.
fn is_reachable_by_all(real: &Path) -> bool {
    // One whose mode cannot be read may be searched for all that is known.
    let open = |folder: &Path| mode(folder).is_none_or(|mode| mode & SEARCHABLE_BY_ALL != 0);
    real.ancestors().skip(1).all(open)
}

fn not_there(path: &Path) -> SocketFault {
    match fs::symlink_metadata(path) {
        Err(error) => unreadable(&error),
        // A link that leads nowhere.
        Ok(_) => SocketFault::Missing,
    }
}

fn unreadable(error: &io::Error) -> SocketFault {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => SocketFault::Missing,
        _ => SocketFault::Unreadable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{
            fs::{PermissionsExt, chown, symlink},
            net::UnixListener,
        },
        path::PathBuf,
    };

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A socket in a folder below one that every user may search.
    fn socket() -> (tempfile::TempDir, PathBuf, UnixListener) {
        let top = tempfile::tempdir().unwrap();
        set(top.path(), 0o755);
        let folder = top.path().join("app");
        fs::create_dir(&folder).unwrap();
        set(&folder, 0o755);
        let path = folder.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        set(&path, 0o660);
        (top, path, listener)
    }

    #[test]
    fn a_socket_is_refused_that_every_user_can_connect_to() {
        let (_top, path, _listener) = socket();
        assert_eq!(judge_socket(&path), Ok(()));
        set(&path, 0o777);
        let fault = judge_socket(&path).unwrap_err();
        let sentence = fault.to_string();
        assert!(
            matches!(fault, SocketFault::OpenToAll { mode: 0o777, .. }),
            "{sentence}"
        );
        assert!(
            sentence.contains(&format!("chmod o-w {}", path.display())),
            "{sentence}"
        );
        // A folder on the way that others may not search keeps them off.
        set(path.parent().unwrap(), 0o750);
        assert_eq!(judge_socket(&path), Ok(()));
    }

    #[test]
    fn a_link_is_judged_by_where_it_leads() {
        let (_top, path, _listener) = socket();
        let closed = tempfile::tempdir().unwrap();
        let link = closed.path().join("link");
        symlink(&path, &link).unwrap();
        assert_eq!(judge_socket(&link), Ok(()));
        set(&path, 0o777);
        // The folder of the link is closed, and the socket is reached without it.
        let fault = judge_socket(&link).unwrap_err();
        assert!(matches!(fault, SocketFault::OpenToAll { .. }), "{fault}");
    }

    #[test]
    fn a_socket_is_refused_that_every_user_can_replace() {
        let (_top, path, _listener) = socket();
        let folder = path.parent().unwrap();
        set(folder, 0o777);
        let folder = folder.display().to_string();
        assert_eq!(judge_socket(&path), Err(SocketFault::Replaceable(folder)));
    }

    #[test]
    fn a_socket_of_another_user_in_a_folder_for_all_is_refused() {
        let (_top, path, _listener) = socket();
        set(path.parent().unwrap(), 0o1777);
        assert_eq!(judge_socket(&path), Ok(()));
        chown(&path, Some(54_321), None)
            .expect("this test gives a file to another user, which only root can");
        let fault = judge_socket(&path).unwrap_err();
        assert!(
            matches!(fault, SocketFault::Foreign { owner: 54_321, .. }),
            "{fault}"
        );
        // In a folder of its own it may belong to anyone.
        set(path.parent().unwrap(), 0o755);
        assert_eq!(judge_socket(&path), Ok(()));
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        let (top, path, listener) = socket();
        assert_eq!(judge_socket(top.path()), Err(SocketFault::NotASocket));
        let missing = path.with_file_name("missing");
        assert_eq!(judge_socket(&missing), Err(SocketFault::Missing));
        let link = path.with_file_name("link");
        symlink(&missing, &link).unwrap();
        assert_eq!(judge_socket(&link), Err(SocketFault::Missing));
        assert_eq!(
            judge_socket(&path.join("below")),
            Err(SocketFault::Missing),
            "a socket is no folder"
        );
        drop(listener);
    }
}
