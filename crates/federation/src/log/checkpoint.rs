//! Checkpoints (C2SP tlog-checkpoint) and the cosignatures of witnesses on them (C2SP
//! tlog-cosignature, Ed25519 "cosignature/v1").

use std::collections::BTreeMap;

use renkei_spiffe::TrustDomain;
use time::OffsetDateTime;

use super::{
    note::{Algorithm, Line, Note, NoteError, key_id},
    tree::Root,
};
use crate::{Federation, PublicKey, SigningKey};

/// A cosignature from further in the future is a clock that is wrong, and counts for nothing.
const CLOCK_SKEW: time::Duration = time::Duration::minutes(10);

/// Why bytes are not a checkpoint of this federation's log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The text is not a signed note.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// A note that is no checkpoint.
    #[error("the note is not a checkpoint (C2SP tlog-checkpoint)")]
    Malformed,
    /// The checkpoint is of another log.
    #[error("the checkpoint is of the log {found:?}, not of {expected:?}")]
    Origin {
        /// The origin in the first line of the checkpoint.
        found: String,
        /// The origin of the federation's log.
        expected: String,
    },
    /// Not signed by the log's key.
    #[error("the log's key has not signed the checkpoint")]
    Unsigned,
}

/// A checkpoint that the log has signed, with whatever cosignatures came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    note: Note,
    root: Root,
}

impl SignedCheckpoint {
    /// Signs a new one with the log's key.
    pub fn sign(origin: &str, root: Root, key: &SigningKey) -> Self {
        let text = format!("{origin}\n{}\n{}\n", root.size, root.hash);
        let line = Line {
            name: origin.to_owned(),
            id: key_id(origin, Algorithm::Ed25519, &key.public()),
            signature: key.sign(text.as_bytes()),
        };
        let lines = vec![line];
        let note = Note { text, lines };
        Self { note, root }
    }

    /// Reads a checkpoint and verifies that the log has signed it.
    pub fn parse(bytes: &[u8], federation: &Federation) -> Result<Self, CheckpointError> {
        let note = Note::parse(bytes)?;
        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text.as_bytes())
            .map_err(|_| CheckpointError::Malformed)?;
        let origin = &federation.origin;
        if checkpoint.origin() != origin {
            return Err(CheckpointError::Origin {
                found: checkpoint.origin().chars().take(200).collect(),
                expected: origin.clone(),
            });
        }
        let id = key_id(origin, Algorithm::Ed25519, &federation.log_key);
        let signed = note.lines.iter().any(|line| {
            line.name == *origin
                && line.id == id
                && federation
                    .log_key
                    .verifies(note.text.as_bytes(), &line.signature)
        });
        if !signed {
            return Err(CheckpointError::Unsigned);
        }
        let root = Root {
            size: checkpoint.size(),
            hash: *checkpoint.hash(),
        };
        Ok(Self { note, root })
    }

    /// Size and root hash.
    pub fn root(&self) -> Root {
        self.root
    }

    /// As it is served and kept.
    pub fn to_text(&self) -> String {
        self.note.write()
    }

    /// Adds a witness's statement that it has verified this checkpoint as of `now`, in place of an
    /// earlier one.
    pub fn cosign(&mut self, witness: &TrustDomain, key: &SigningKey, now: OffsetDateTime) {
        let name = witness.as_str();
        let time = u64::try_from(now.unix_timestamp()).unwrap_or_default();
        let id = key_id(name, Algorithm::CosignatureV1, &key.public());
        let signature = key.sign(cosigned(&self.note.text, time).as_bytes());
        let mut bytes = time.to_be_bytes().to_vec();
        bytes.extend(signature);
        self.put(Line {
            name: name.to_owned(),
            id,
            signature: bytes,
        });
    }

    /// The witnesses of the federation that have cosigned, and when.
    pub fn cosigned_by(
        &self,
        federation: &Federation,
        now: OffsetDateTime,
    ) -> BTreeMap<TrustDomain, OffsetDateTime> {
        let valid = |(name, key): (&TrustDomain, &PublicKey)| {
            let id = key_id(name.as_str(), Algorithm::CosignatureV1, key);
            let of_witness = self
                .note
                .lines
                .iter()
                .filter(|line| line.name == name.as_str() && line.id == id);
            let newest = of_witness
                .filter_map(|line| self.time_of(line, key))
                .max()?;
            (newest <= now + CLOCK_SKEW).then(|| (name.clone(), newest))
        };
        federation.witnesses.keys.iter().filter_map(valid).collect()
    }

    /// The time that a quorum of witnesses vouches for: the latest at which that many of them had
    /// verified this checkpoint or did so later.
    pub fn witnessed_at(
        &self,
        federation: &Federation,
        now: OffsetDateTime,
    ) -> Option<OffsetDateTime> {
        let mut times: Vec<_> = self.cosigned_by(federation, now).into_values().collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        let last = federation.witnesses.quorum.checked_sub(1)?;
        times.get(last).copied()
    }

    /// Takes over the valid cosignatures of another copy of the same checkpoint that are newer
    /// than those here. `true` when there were any.
    pub fn merge(&mut self, other: &Self, federation: &Federation, now: OffsetDateTime) -> bool {
        if self.note.text != other.note.text {
            return false;
        }
        let have = self.cosigned_by(federation, now);
        let mut changed = false;
        for (name, time) in other.cosigned_by(federation, now) {
            if have.get(&name).is_some_and(|have| *have >= time) {
                continue;
            }
            let Some(key) = federation.witnesses.keys.get(&name) else {
                continue;
            };
            let found =
                other.note.lines.iter().find(|line| {
                    line.name == name.as_str() && other.time_of(line, key) == Some(time)
                });
            if let Some(line) = found {
                self.put(line.clone());
                changed = true;
            }
        }
        changed
    }

    fn put(&mut self, line: Line) {
        self.note
            .lines
            .retain(|other| other.name != line.name || other.id != line.id);
        self.note.lines.push(line);
    }

    /// The time of a cosignature, if it is this key's over this checkpoint.
    fn time_of(&self, line: &Line, key: &PublicKey) -> Option<OffsetDateTime> {
        let (time, signature) = line.signature.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        let at = OffsetDateTime::from_unix_timestamp(i64::try_from(time).ok()?).ok()?;
        key.verifies(cosigned(&self.note.text, time).as_bytes(), signature)
            .then_some(at)
    }
}

/// What a witness signs: two lines before the whole text of the checkpoint.
fn cosigned(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}
