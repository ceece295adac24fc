//! The log's folder: public files, each written whole or not at all, and a lock.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use renkei_federation::{
    CheckpointError,
    log::{self, MAX_BUNDLE_BYTES, MAX_NOTE_BYTES, WIDTH, bundle_path, read_bundle},
};
use renkei_runtime::files;

/// The newest checkpoint with a quorum of witnesses; what sites and mirrors read.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// The newest checkpoint; what witnesses read.
pub(crate) const PENDING: &str = "pending";
/// Statements that were taken and are in no checkpoint yet, in the form of a file of entries.
const QUEUE: &str = ".queue";

/// Why a folder cannot be the log's.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file of the folder cannot be read or written.
    #[error("the log's file {} cannot be used: {source}", path.display())]
    Io {
        /// The file or folder that failed.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Another registry runs on it.
    #[error("another registry uses the folder {}", .0.display())]
    InUse(PathBuf),
    /// The note in it is not this log's.
    #[error("the log's file {} is not of this federation: {source}", path.display())]
    Checkpoint {
        /// The file or folder that failed.
        path: PathBuf,
        /// The fault of the checkpoint.
        source: CheckpointError,
    },
    /// The entries are not those that were signed.
    #[error(
        "the entries in {} are not those that its checkpoint was signed for; restore the folder from a mirror: a registry that signs another history is of no use to anyone", .0.display()
    )]
    Damaged(PathBuf),
    /// The note that says how much of the log was signed for is gone, and the log is not.
    #[error(
        "the log's file {} is missing, but {} is there: an empty log would be another history; restore the folder from a mirror or a backup", missing.display(), found.display()
    )]
    Lost {
        /// The newest checkpoint.
        missing: PathBuf,
        /// What shows that there was one.
        found: PathBuf,
    },
}

/// A folder that this process writes.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        let failed = |path: &Path, source| FolderError::Io {
            path: path.to_owned(),
            source,
        };
        let owned = path.to_owned();
        let made = files::run(path, move || fs::create_dir_all(owned));
        made.map_err(|source| failed(path, source))?;
        let name = path.join(".lock");
        let owned = name.clone();
        let lock = files::run(&name, move || {
            files::open_with(OpenOptions::new().append(true).create(true), &owned)
        });
        let lock = lock.map_err(|source| failed(&name, source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(FolderError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(&name, source)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A note, if it is there.
    pub(crate) fn note(&self, name: &str) -> Result<Option<Vec<u8>>, FolderError> {
        self.read(name, MAX_NOTE_BYTES)
    }

    /// Whether a log may begin here: nothing is left of another.
    pub(crate) fn may_begin(&self) -> Result<(), FolderError> {
        for name in [CHECKPOINT, QUEUE, "tile"] {
            let found = self.path.join(name);
            let path = found.clone();
            match files::run(&found, move || fs::symlink_metadata(path)) {
                Ok(_) => {
                    let missing = self.path.join(PENDING);
                    return Err(FolderError::Lost { missing, found });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(FolderError::Io {
                        path: found,
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// The entries of a log of `size`, in order.
    pub(crate) fn entries(&self, size: u64) -> Result<Vec<Vec<u8>>, FolderError> {
        let damaged = || FolderError::Damaged(self.path.clone());
        let mut entries = Vec::new();
        for number in 0..size.div_ceil(WIDTH) {
            let bytes = self.read(&bundle_path(number, size), MAX_BUNDLE_BYTES)?;
            let bytes = match bytes {
                Some(bytes) => bytes,
                // A partial file gives way to the full one.
                None => self
                    .read(&bundle_path(number, u64::MAX), MAX_BUNDLE_BYTES)?
                    .ok_or_else(damaged)?,
            };
            let bundle = read_bundle(&bytes).ok_or_else(damaged)?;
            let wanted = usize::try_from((size - number * WIDTH).min(WIDTH)).unwrap_or(256);
            entries.extend(bundle.into_iter().take(wanted).map(<[u8]>::to_vec));
        }
        Ok(entries)
    }

    /// Keeps what was taken, so that a promise outlives a crash.
    pub(crate) fn keep_queue(&self, queue: &[Vec<u8>]) -> Result<(), FolderError> {
        let mut bytes = Vec::new();
        for entry in queue {
            let length = u16::try_from(entry.len()).unwrap_or(u16::MAX);
            bytes.extend(length.to_be_bytes());
            bytes.extend(entry);
        }
        self.put(QUEUE, &bytes)
    }

    pub(crate) fn queue(&self) -> Result<Vec<Vec<u8>>, FolderError> {
        let damaged = || FolderError::Damaged(self.path.join(QUEUE));
        let bytes = self.read(QUEUE, MAX_BUNDLE_BYTES)?.unwrap_or_default();
        let entries = read_bundle(&bytes).ok_or_else(damaged)?;
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    fn read(&self, name: &str, most: usize) -> Result<Option<Vec<u8>>, FolderError> {
        let path = self.path.join(name);
        match files::read(&path, most) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError::Io { path, source }),
        }
    }

    /// Writes files of the log; the notes that make them count come afterwards.
    pub(crate) fn write(&self, files: &[log::File]) -> Result<(), FolderError> {
        for file in files {
            self.put(&file.path, &file.bytes)?;
            // tlog-tiles: a partial file may go once the full one is there.
            let partial = self.path.join(format!("{}.p", file.path));
            let _ = files::run(&partial.clone(), move || fs::remove_dir_all(partial));
        }
        Ok(())
    }

    pub(crate) fn put(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let (to, bytes) = (path.clone(), bytes.to_vec());
        let folder = path.parent().unwrap_or(&self.path).to_owned();
        let written = files::run(&path, move || {
            fs::create_dir_all(&folder)?;
            let temporary = folder.join(".new");
            let mut file = File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &to)
        });
        written.map_err(|source| FolderError::Io { path, source })
    }
}
