//! A private folder for keys, databases and sockets.
//!
//! The folder belongs to the user of the process and no other user may write in it; files are
//! written whole or not at all, and only that user may read them.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "all of it runs on a thread that may wait for a file"
    )
)]

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use thiserror::Error;

use crate::files;

/// A folder that only the user of this process may change.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
}

/// Why a folder cannot hold state.
#[derive(Debug, Error)]
pub enum StateFolderError {
    /// It is missing and cannot be made.
    #[error("the state folder {} cannot be made: {source}", path.display())]
    Create {
        /// The path of the folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Something else has its name.
    #[error("{} is not a folder, so it cannot hold state", path.display())]
    NotAFolder {
        /// What was named as the folder.
        path: PathBuf,
    },
    /// Another user could change what is in it.
    #[error("the state folder {} belongs to user {owner}, not to user {user} who runs this", path.display())]
    NotOurs {
        /// The path of the folder.
        path: PathBuf,
        /// The user ID of the folder's owner.
        owner: u32,
        /// The user of this process.
        user: u32,
    },
    /// Other users may write in it.
    #[error("other users may write in the state folder {} (mode {mode:04o})", path.display())]
    Exposed {
        /// The path of the folder.
        path: PathBuf,
        /// Its permission bits, which let others write.
        mode: u32,
    },
    /// No file can be written in it.
    #[error("the state folder {} is not writable: {source}", path.display())]
    NotWritable {
        /// The path of the folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl StateFolderError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Create { .. } | Self::NotAFolder { .. } => {
                "choose another folder, or make it first and give it to the user who runs this"
                    .to_owned()
            }
            Self::NotOurs { path, .. } => {
                format!(
                    "run as its owner, or `chown` {} to the user who runs this",
                    path.display()
                )
            }
            Self::Exposed { path, .. } => format!("chmod 700 {}", path.display()),
            Self::NotWritable { path, .. } => {
                format!(
                    "check the permissions and the free space of {}",
                    path.display()
                )
            }
        }
    }
}

impl StateFolder {
    /// Opens the folder, making it (and its parents) with mode 0700 where it is missing.
    ///
    /// # Errors
    /// When it is not a folder, not ours, writable by others, or not writable by us.
    pub fn open(path: &Path) -> Result<Self, StateFolderError> {
        let owned = path.to_owned();
        let opened = files::run(path, move || Ok(Self::open_now(&owned)));
        opened.unwrap_or_else(|source| {
            Err(StateFolderError::NotWritable {
                path: path.to_owned(),
                source,
            })
        })
    }

    fn open_now(path: &Path) -> Result<Self, StateFolderError> {
        let create = DirBuilder::new().recursive(true).mode(0o700).create(path);
        create.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => StateFolderError::NotAFolder {
                path: path.to_owned(),
            },
            _ => StateFolderError::Create {
                path: path.to_owned(),
                source,
            },
        })?;
        let not_writable = |source| StateFolderError::NotWritable {
            path: path.to_owned(),
            source,
        };
        let metadata = fs::metadata(path).map_err(not_writable)?;
        check_owner(path, &metadata)?;
        let path = path.canonicalize().map_err(not_writable)?;
        probe(&path).map_err(not_writable)?;
        Ok(Self { path })
    }

    /// A folder within this one, made with mode 0700 where it is missing.
    ///
    /// # Errors
    /// As for [`StateFolder::open`].
    pub fn subfolder(&self, name: &str) -> Result<Self, StateFolderError> {
        Self::open(&self.path.join(name))
    }

    /// Where it is: absolute, without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves every file of the folder `old` here and removes `old`, for state that an earlier
    /// release kept by another name. It may be cut off at any point and repeated. No folder of that
    /// name is no error.
    ///
    /// # Errors
    /// When something cannot be moved, or gives no answer in time.
    pub fn take_over(&self, old: &Path) -> io::Result<()> {
        let (owned, here) = (old.to_owned(), self.path.clone());
        files::run(old, move || take_over_now(&owned, &here))
    }

    /// The path of something in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

fn take_over_now(old: &Path, here: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(old) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        fs::rename(entry.path(), here.join(entry.file_name()))?;
    }
    // The files are here for good before their old place is gone.
    File::open(here)?.sync_all()?;
    fs::remove_dir(old)
}

fn check_owner(path: &Path, metadata: &fs::Metadata) -> Result<(), StateFolderError> {
    let user = rustix::process::geteuid().as_raw();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != user {
        return Err(StateFolderError::NotOurs {
            path: path.to_owned(),
            owner,
            user,
        });
    }
    if mode & 0o022 != 0 {
        return Err(StateFolderError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// Permission bits do not tell of read-only or full file systems; a file does.
fn probe(folder: &Path) -> io::Result<()> {
    let probe = folder.join(temporary_name("probe".as_ref()));
    create_private(&probe)?;
    fs::remove_file(&probe)
}

/// Replaces the file at `path` by one with these contents and mode 0600. After a crash there is
/// either the old file or the new one, whole.
///
/// # Errors
/// When the file cannot be written, its folder is missing, or it gives no answer in time.
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let (owned, contents) = (path.to_owned(), contents.to_vec());
    files::run(path, move || write_now(&owned, &contents))
}

fn write_now(path: &Path, contents: &[u8]) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "the path names no file");
    let (folder, name) = path.parent().zip(path.file_name()).ok_or_else(invalid)?;
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let temporary = folder.join(temporary_name(name.as_ref()));
    let written = fill(&temporary, contents).and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // What was written is a part of a file that will not be read.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    File::open(folder)?.sync_all()
}

fn fill(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = create_private(path)?;
    file.write_all(contents)?;
    file.sync_all()
}

fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// A name no other writer uses now.
fn temporary_name(name: &Path) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!(".{}.{}.{count}.new", name.display(), std::process::id())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_missing_folder_is_made_for_its_user_alone() {
        let parent = tempfile::tempdir().unwrap();
        let folder = StateFolder::open(&parent.path().join("a/state")).unwrap();
        assert_eq!(mode(folder.path()), 0o700);
        assert_eq!(mode(folder.subfolder("keys").unwrap().path()), 0o700);
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            1,
            "the probe is gone"
        );
        StateFolder::open(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_others_may_write_in_is_refused_with_the_command_that_helps() {
        let parent = tempfile::tempdir().unwrap();
        for bits in [0o770, 0o707, 0o1777] {
            fs::set_permissions(parent.path(), fs::Permissions::from_mode(bits)).unwrap();
            let error = StateFolder::open(parent.path()).unwrap_err();
            assert!(matches!(error, StateFolderError::Exposed { mode, .. } if mode == bits));
            assert!(error.hint().starts_with("chmod 700 /"), "{}", error.hint());
        }
    }

    #[test]
    fn a_file_in_place_of_the_folder_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = StateFolder::open(file.path()).unwrap_err();
        assert!(
            matches!(error, StateFolderError::NotAFolder { .. }),
            "{error}"
        );
        let error = StateFolder::open(&file.path().join("below")).unwrap_err();
        assert!(matches!(error, StateFolderError::Create { .. }), "{error}");
    }

    #[test]
    fn a_folder_that_takes_no_files_is_not_writable() {
        // Ours, and no user, not even root, can make a file there.
        let error = StateFolder::open(Path::new("/proc/self")).unwrap_err();
        assert!(error.to_string().contains("is not writable"), "{error}");
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
        let ours = rustix::process::geteuid().as_raw();
        let parent = tempfile::tempdir().unwrap();
        if ours != 0 {
            let error = StateFolder::open(Path::new("/usr")).unwrap_err();
            assert!(
                matches!(error, StateFolderError::NotOurs { owner: 0, .. }),
                "{error}"
            );
            return;
        }
        std::os::unix::fs::chown(parent.path(), Some(12345), None).unwrap();
        let error = StateFolder::open(parent.path()).unwrap_err();
        assert!(
            matches!(error, StateFolderError::NotOurs { owner: 12345, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_private_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        fs::write(&path, "old and longer").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write_private(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(mode(&path), 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_write_that_cannot_end_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write_private(&path, b"new").is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_private(Path::new("/"), b"x").is_err());
    }
}
