//! This site as a witness: it cosigns what it has replayed, and remembers what it has cosigned
//! before anybody sees it. Without that memory it never signs again under the same key.

use std::path::{Path, PathBuf};

use renkei_federation::{PublicKey, SignedCheckpoint, SigningKey, TrustDomain, View};
use renkei_runtime::files;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use super::{
    key_file::{read_key, write_key},
    site_folder::{OwnError, place, put, read},
};

const KEY: &str = "witness.pem";
const MEMORY: &str = "witness.json";
/// A cosignature is made again as often as this, so that readers see that the log is watched.
const RENEW: Duration = Duration::hours(1);

/// What was cosigned last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Memory {
    size: u64,
    root: String,
}

/// Why nothing was cosigned.
#[derive(Debug, thiserror::Error)]
pub(super) enum WitnessError {
    #[error(transparent)]
    Own(#[from] OwnError),
    #[error(
        "the witness's record {} is missing, so it must not sign with its key again: remove {KEY} in the same folder, run `renkei federation join` again, and put the new key into the federation file", .0.display()
    )]
    NoMemory(PathBuf),
    #[error(
        "the log is not the one that this witness has cosigned with {size} entries: it has changed its history, or belongs to another federation"
    )]
    AnotherHistory { size: u64 },
}

/// A witness with its key.
pub(super) struct Witness {
    folder: PathBuf,
    key: SigningKey,
}

impl Witness {
    pub(super) fn exists(folder: &Path) -> bool {
        files::exists(&folder.join(KEY))
    }

    /// Keeps a new key; it has cosigned nothing.
    pub(super) fn begin(folder: &Path, key: &SigningKey) -> Result<(), OwnError> {
        let nothing = Memory {
            size: 0,
            root: String::new(),
        };
        remember(folder, &nothing)?;
        Ok(write_key(&folder.join(KEY), key)?)
    }

    pub(super) fn open(folder: &Path) -> Result<Option<Self>, OwnError> {
        if !Self::exists(folder) {
            return Ok(None);
        }
        Ok(Some(Self {
            key: read_key(&folder.join(KEY))?,
            folder: folder.to_owned(),
        }))
    }

    pub(super) fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// Cosigns the newest checkpoint of a view, if that is due. The memory is written first.
    pub(super) fn cosign(
        &self,
        name: &TrustDomain,
        view: &View,
        now: OffsetDateTime,
    ) -> Result<Option<SignedCheckpoint>, WitnessError> {
        let Some(newest) = view.newest() else {
            return Ok(None);
        };
        let given = newest.cosigned_by(view.federation(), now);
        if given.get(name).is_some_and(|at| now - *at < RENEW) {
            return Ok(None);
        }
        let path = self.folder.join(MEMORY);
        let memory = read(&path)?.and_then(|bytes| serde_json::from_slice::<Memory>(&bytes).ok());
        let memory = memory.ok_or(WitnessError::NoMemory(path))?;
        let root = newest.root();
        if root.size < memory.size {
            return Ok(None);
        }
        let then = view.root_at(memory.size);
        if memory.size > 0 && then.is_none_or(|then| then.hash.to_string() != memory.root) {
            return Err(WitnessError::AnotherHistory { size: memory.size });
        }
        let now_seen = Memory {
            size: root.size,
            root: root.hash.to_string(),
        };
        if now_seen != memory {
            remember(&self.folder, &now_seen)?;
        }
        let mut checkpoint = newest.clone();
        checkpoint.cosign(name, &self.key, now);
        Ok(Some(checkpoint))
    }
}

fn remember(folder: &Path, memory: &Memory) -> Result<(), OwnError> {
    let bytes = serde_json::to_vec(memory).unwrap_or_default();
    put(&folder.join(MEMORY), &bytes)
}

/// The public key of the witness in a state folder, if it has one.
pub fn witness_key(state: &Path) -> Result<Option<PublicKey>, OwnError> {
    let witness = Witness::open(&place(state))?;
    Ok(witness.map(|witness| witness.public()))
}
