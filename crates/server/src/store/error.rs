//! What can be wrong with a state folder. Every message names the file and a way out.

use std::{
    io,
    path::{Path, PathBuf},
};

use renkei_api::node::EntryId;
use renkei_runtime::state_folder::StateFolderError;
use renkei_spiffe::TrustDomain;

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder cannot hold state.
    #[error("{0}; {hint}", hint = .0.hint())]
    Folder(#[from] StateFolderError),
    /// A file in the folder cannot be made or opened.
    #[error("cannot use {path}: {source}; it must belong to the user that runs renkei")]
    Unusable {
        /// The file that cannot be used.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process serves this folder.
    #[error(
        "{path} is locked: another renkei runs on this state folder; stop it, or choose another folder"
    )]
    InUse {
        /// The lock file in the state folder.
        path: PathBuf,
    },
    /// There is no database yet.
    #[error("{path} does not exist: no site has been started on this state folder yet")]
    NotFound {
        /// Where the database should be.
        path: PathBuf,
    },
    /// Something of a site that has run is there, its CA is not.
    #[error(
        "{path} is missing or empty, but {trace} is of a site that has run: no new CA is made in its place; restore {path} and the folder keys/ from a backup, or move the state folder away to start with a new CA, whose bundle every peer must then be given{hint}",
        hint = without_a_ca(trace)
    )]
    Lost {
        /// Where the database should be.
        path: PathBuf,
        /// What the state folder still holds of a site that has run.
        trace: PathBuf,
    },
    /// The folder is another trust domain's.
    #[error(
        "{path} holds the state of the trust domain {found}, but the site file says {expected}; give each trust domain its own state folder"
    )]
    ForeignTrustDomain {
        /// The database of the other trust domain.
        path: PathBuf,
        /// The trust domain that the database is of.
        found: String,
        /// Whose it should be.
        expected: TrustDomain,
    },
    /// SQLite does not recognise its own file.
    #[error(
        "{path} is damaged ({reason}); restore it and the folder keys/ from a backup, or move the state folder away to start with a new CA, whose bundle every peer must then be given"
    )]
    Corrupt {
        /// The damaged database.
        path: PathBuf,
        /// What SQLite found in it.
        reason: String,
    },
    /// An entry's ID is another source's.
    #[error("the entry {id} is of the source `{of}`, which alone may change it")]
    ForeignEntry {
        /// The ID of the entry.
        id: EntryId,
        /// Where the entry comes from.
        of: String,
    },
    /// The tables were made by another version.
    #[error(
        "{path} was written by another version of renkei ({reason}); run that version, or restore a backup"
    )]
    Schema {
        /// The database of the other version.
        path: PathBuf,
        /// What the migration said.
        reason: String,
    },
    /// The disk below the database hangs.
    #[error(
        "the database {path} gives no answer; check the file system that holds it (`df -h {path}`)"
    )]
    NoAnswer {
        /// The database that gave no answer.
        path: PathBuf,
    },
    /// The CAs in the database are not as the caller knew them.
    #[error(
        "the database {path} has no CA {id} in the state `{expected}`: an earlier change was made late; the CAs are read again"
    )]
    Changed {
        /// The database with the row.
        path: PathBuf,
        /// The number of the CA.
        id: String,
        /// The state that it should have.
        expected: &'static str,
    },
    /// Any other failure of the database, such as a full disk.
    #[error(
        "the database {path} failed: {reason}; check the free space (`df -h {path}`), and that this user may write"
    )]
    Database {
        /// The database that was used.
        path: PathBuf,
        /// What SQLite says.
        reason: sqlx::Error,
    },
}

/// SQLITE_IOERR and SQLITE_FULL. The lower byte of SQLite's codes has the kind of error.
const DISK_CODES: [i64; 2] = [10, 13];

impl StoreError {
    /// Whether a change that failed so may still be found in the database later.
    pub(crate) fn may_be_done(&self) -> bool {
        match self {
            Self::NoAnswer { .. } => true,
            Self::Database { reason, .. } => match reason {
                sqlx::Error::Database(error) => {
                    let code = error.code().and_then(|code| code.parse::<i64>().ok());
                    code.is_none_or(|code| DISK_CODES.contains(&(code & 0xff)))
                }
                sqlx::Error::PoolTimedOut => false,
                _ => true,
            },
            _ => false,
        }
    }
}

/// Sites of another agent write this file, too.
fn without_a_ca(trace: &Path) -> String {
    match trace.file_name() {
        Some(name) if name == "broker-ports.json" => format!(
            "; if the site had no CA of its own (`--workload-api`), remove {}",
            trace.display()
        ),
        _ => String::new(),
    }
}

/// Why a CA's key file cannot be used. The key's bytes never appear here.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file is gone.
    #[error(
        "the CA's key file {path} is missing; restore it from a backup, or move the state folder away to start with a new CA, whose bundle every peer must then be given"
    )]
    Missing {
        /// Where the key file should be.
        path: PathBuf,
    },
    /// Others than the owner may read or write it.
    #[error(
        "the CA's key file {path} has mode {mode:04o}, so other users can read it; if no one has, run: chmod 600 {path}"
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits; 0600 is needed.
        mode: u32,
    },
    /// The key file cannot be read or written.
    #[error("the CA's key file {path} cannot be used: {source}")]
    Unusable {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a PKCS#8 key in PEM.
    #[error(
        "the CA's key file {path} is damaged; restore it from a backup, or move the state folder away to start with a new CA, whose bundle every peer must then be given"
    )]
    Damaged {
        /// The key file.
        path: PathBuf,
    },
    /// The key is not the one that the CA's certificate names.
    #[error(
        "the key in {path} does not belong to its CA certificate; restore the file from a backup of the same state folder"
    )]
    Mismatch {
        /// The key file.
        path: PathBuf,
    },
}
