//! The folder in which this site keeps its own part in a federation.

use std::{
    io,
    path::{Path, PathBuf},
};

use renkei_federation::{Digest, EnvelopeError, TrustDomain};
use renkei_runtime::{
    files,
    state_folder::{StateFolderError, write_private},
};

use super::key_file::KeyFileError;

pub(super) const FOLDER: &str = "federation";
/// Every file here is smaller.
const MAX_FILE: usize = 1024 * 1024;

/// Why this site cannot take its part.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// A key file cannot be used.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Folder(#[from] StateFolderError),
    /// A file cannot be read or written.
    #[error("the file {} cannot be used: {source}", path.display())]
    File {
        /// The path of the file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A statement on disk.
    #[error("the file {} is damaged: {source}", path.display())]
    Damaged {
        /// The path of the file.
        path: PathBuf,
        /// What is wrong with its statement.
        source: EnvelopeError,
    },
    /// The files do not fit together.
    #[error("the file {} is not a site root of {trust_domain}", path.display())]
    Foreign {
        /// The path of the file.
        path: PathBuf,
        /// The trust domain of the site file.
        trust_domain: TrustDomain,
    },
    /// It was done before.
    #[error("{} has joined already, with the identity {genesis}", trust_domain)]
    Joined {
        /// The trust domain of the site file.
        trust_domain: TrustDomain,
        /// The digest of the federation's first statement.
        genesis: Digest,
    },
    /// A statement cannot be made.
    #[error(transparent)]
    Statement(#[from] EnvelopeError),
}

/// The folder of federations in a state folder.
pub(super) fn place(state: &Path) -> PathBuf {
    state.join(FOLDER)
}

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, OwnError> {
    match files::read(path, MAX_FILE) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OwnError::File {
            path: path.to_owned(),
            source,
        }),
    }
}

pub(super) fn put(path: &Path, bytes: &[u8]) -> Result<(), OwnError> {
    write_private(path, bytes).map_err(|source| OwnError::File {
        path: path.to_owned(),
        source,
    })
}
