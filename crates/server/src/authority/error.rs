//! What can go wrong with the authority.

use std::path::PathBuf;

use renkei_api::node::EntryId;
use time::OffsetDateTime;

use super::RequestError;
use crate::{
    keys::GenerateError,
    store::{KeyFileError, StoreError},
};

/// Why the authority cannot be opened or rotated.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The database cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key file of a CA cannot be read or written.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The CA certificate in the database cannot be read.
    #[error(
        "the CA certificate {id} in the database is damaged; restore the state folder from a backup"
    )]
    Certificate {
        /// The number of the CA in the database.
        id: String,
    },
    /// There was a CA before.
    #[error(
        "the database {path} no longer has the CA that signs: no new one is made in its place; restore it and the folder keys/ from a backup, or move the state folder away to start with a new CA, whose bundle every peer must then be given"
    )]
    Lost {
        /// The database that names the CA.
        path: PathBuf,
    },
    /// The making of a key or certificate failed.
    #[error("a CA could not be made: {0}")]
    Generation(#[from] rcgen::Error),
    /// No CA can be made without random numbers of the system.
    #[error("the system gave no random numbers")]
    Random,
}

impl From<GenerateError> for AuthorityError {
    fn from(error: GenerateError) -> Self {
        match error {
            GenerateError::Generation(error) => Self::Generation(error),
            GenerateError::Keep(error) => Self::Key(error),
        }
    }
}

/// Why an SVID was not issued.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// There is no such entry.
    #[error("there is no entry {0} any more")]
    UnknownEntry(EntryId),
    /// The entry has ended by itself.
    #[error("the entry ended at {end}")]
    EntryEnded {
        /// What the entry says.
        end: OffsetDateTime,
    },
    /// The certificate request is bad.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The CA ended and could not be replaced.
    #[error("the CA expired at {not_after}; the log says why no new one could be made")]
    AuthorityEnded {
        /// When the CA that signs expired.
        not_after: OffsetDateTime,
    },
    /// The clock went back behind the CA's start.
    #[error("this host's clock says {now}, but the CA starts at {not_before}: the clock is wrong")]
    ClockBehind {
        /// The time that this process acts by.
        now: OffsetDateTime,
        /// When the CA that signs becomes valid.
        not_before: OffsetDateTime,
    },
    /// The certificate could not be made.
    #[error("the certificate could not be made: {0}")]
    Generation(#[from] rcgen::Error),
    /// No serial number can be made without random numbers of the system.
    #[error("the system gave no random numbers")]
    Random,
}
