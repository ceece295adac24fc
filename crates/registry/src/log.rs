//! The log itself: what it takes, when it signs, what it publishes. Time comes in as an argument.
//!
//! ```text
//! statement --judged--> queue --cut--> pending --a quorum of cosignatures--> checkpoint
//! ```
//!
//! A checkpoint is cut when the one before has its quorum, or after an interval, so that witnesses
//! meet at the same tree however fast statements come.

use std::{collections::HashSet, path::Path, sync::Arc};

use renkei_federation::{
    CheckpointError, Digest, Envelope, EnvelopeError, Federation, SignedCheckpoint, SigningKey,
    Statement,
    log::Tree,
    replay::{State, StatementRefusal},
};
use time::{Duration, OffsetDateTime};

use crate::folder::{CHECKPOINT, Folder, FolderError, PENDING};

/// Statements that wait for the next checkpoint, at most.
const MAX_QUEUE: usize = 256;

/// Why a statement was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// Not a signed statement.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// No site would count it.
    #[error(transparent)]
    Refused(#[from] StatementRefusal),
    /// Strangers could fill the log.
    #[error(
        "{name} is not admitted with this identity; its registrar says: renkei federation admit \
         {name} {genesis}"
    )]
    NotAdmitted {
        /// The identity that owns the name.
        genesis: Digest,
        /// The trust domain that it owns.
        name: renkei_federation::TrustDomain,
    },
    /// The queue of statements is full.
    #[error("{MAX_QUEUE} statements are waiting; try again in a minute")]
    Busy,
    /// The folder of the log cannot be read or written.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Why cosignatures were not taken.
#[derive(Debug, thiserror::Error)]
pub enum CosignError {
    /// Not a checkpoint of this log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Of a tree that is not the newest.
    #[error("the checkpoint has {theirs} entries; {ours} are to be cosigned")]
    Outdated {
        /// Of the one that came.
        theirs: u64,
        /// Entries below the newest checkpoint.
        ours: u64,
    },
    /// No new cosignature of a witness of the federation is on it.
    #[error("there is no new cosignature of a witness of this federation on it")]
    Nothing,
    /// The folder of the log cannot be read or written.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Where a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Whether it was there before.
    pub known: bool,
}

/// The log and its folder.
pub struct Log {
    federation: Arc<Federation>,
    key: SigningKey,
    folder: Folder,
    interval: Duration,
    tree: Tree,
    /// With everything in the queue.
    state: State,
    /// The statements that were taken, by their payload: the same one with other signatures is
    /// not another.
    seen: HashSet<Digest>,
    queue: Vec<Vec<u8>>,
    /// The queue could not be written.
    is_queue_unsaved: bool,
    pending: SignedCheckpoint,
    cut_at: OffsetDateTime,
}

impl Log {
    /// Opens the folder, and makes an empty log where there is none.
    pub fn open(
        folder: &Path,
        federation: Arc<Federation>,
        key: SigningKey,
        interval: Duration,
        now: OffsetDateTime,
    ) -> Result<Self, FolderError> {
        let folder = Folder::open(folder)?;
        let pending = folder.note(PENDING)?;
        let pending = pending.map(|bytes| SignedCheckpoint::parse(&bytes, &federation));
        let pending = pending.transpose();
        let pending = pending.map_err(|source| FolderError::Checkpoint {
            path: folder.path().join(PENDING),
            source,
        })?;
        let mut log = Self {
            pending: SignedCheckpoint::sign(&federation.origin, Tree::default().root(), &key),
            federation,
            key,
            interval,
            tree: Tree::default(),
            state: State::default(),
            seen: HashSet::new(),
            queue: Vec::new(),
            is_queue_unsaved: false,
            cut_at: now,
            folder,
        };
        match pending {
            Some(pending) => log.restore(pending)?,
            None => log.begin()?,
        }
        log.restore_queue()?;
        Ok(log)
    }

    fn begin(&self) -> Result<(), FolderError> {
        self.folder.may_begin()?;
        tracing::warn!(
            folder = %self.folder.path().display(),
            "there is no log here: an empty one begins. If there was one before, stop the registry and restore the folder"
        );
        self.folder.put(PENDING, self.pending.to_text().as_bytes())
    }

    fn restore(&mut self, pending: SignedCheckpoint) -> Result<(), FolderError> {
        for (index, entry) in (0..).zip(self.folder.entries(pending.root().size)?) {
            self.tree.append(&entry);
            self.state.apply(&self.federation, index, &entry);
            // An entry that does not count is no statement of anybody.
            self.seen
                .extend(Envelope::parse(&entry).map(|envelope| envelope.digest()));
        }
        self.tree.files_are_there();
        if self.tree.root() != pending.root() {
            return Err(FolderError::Damaged(self.folder.path().to_owned()));
        }
        self.pending = pending;
        Ok(())
    }

    /// What was taken before a crash. What no longer counts, or was signed for, is let go.
    fn restore_queue(&mut self) -> Result<(), FolderError> {
        for entry in self.folder.queue()? {
            let Ok(envelope) = Envelope::parse(&entry) else {
                continue;
            };
            let index = self.next_index();
            let counts = self.state.judge(&self.federation, index, &envelope).is_ok();
            if counts && self.seen.insert(envelope.digest()) {
                self.queue.push(entry);
            }
        }
        Ok(())
    }

    fn next_index(&self) -> u64 {
        let waiting = u64::try_from(self.queue.len()).unwrap_or(u64::MAX);
        self.tree.size().saturating_add(waiting)
    }

    /// How many entries are signed for.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// Takes a statement that sites would count. Taking it again changes nothing.
    pub fn submit(&mut self, bytes: &[u8], now: OffsetDateTime) -> Result<Placed, SubmitError> {
        let envelope = Envelope::parse(bytes)?;
        let digest = envelope.digest();
        if self.seen.contains(&digest) {
            // Its first submission may have failed here.
            if self.is_queue_unsaved {
                self.keep_queue()?;
            }
            return Ok(Placed { known: true });
        }
        if self.queue.len() >= MAX_QUEUE {
            return Err(SubmitError::Busy);
        }
        self.is_admitted(&envelope)?;
        let index = self.next_index();
        self.state.judge(&self.federation, index, &envelope)?;
        let statement = envelope.statement();
        let about = statement.trust_domain();
        tracing::info!(kind = statement.kind(), trust_domain = %about, index, "took a statement");
        self.seen.insert(digest);
        self.queue.push(envelope.to_bytes());
        self.keep_queue()?;
        self.tick(now)?;
        Ok(Placed { known: false })
    }

    fn keep_queue(&mut self) -> Result<(), FolderError> {
        self.is_queue_unsaved = true;
        self.folder.keep_queue(&self.queue)?;
        self.is_queue_unsaved = false;
        Ok(())
    }

    /// Only sites that the registrar knows may begin a chain, so that others cannot fill the disk.
    fn is_admitted(&self, envelope: &Envelope) -> Result<(), SubmitError> {
        let Statement::SiteRoot(root) = envelope.statement() else {
            return Ok(());
        };
        let genesis = envelope.digest();
        let word = self.state.admissions().get(&root.trust_domain);
        match word.is_some_and(|word| word.genesis == genesis) || root.prev.is_some() {
            true => Ok(()),
            false => Err(SubmitError::NotAdmitted {
                genesis,
                name: root.trust_domain.clone(),
            }),
        }
    }

    /// Takes the cosignatures of witnesses from their copy of the newest checkpoint.
    pub fn cosign(&mut self, note: &[u8], now: OffsetDateTime) -> Result<(), CosignError> {
        let theirs = SignedCheckpoint::parse(note, &self.federation)?;
        if theirs.root() != self.pending.root() {
            return Err(CosignError::Outdated {
                theirs: theirs.root().size,
                ours: self.pending.root().size,
            });
        }
        // It counts when it is written: what was not can be handed in again.
        let mut pending = self.pending.clone();
        if !pending.merge(&theirs, &self.federation, now) {
            return Err(CosignError::Nothing);
        }
        let text = pending.to_text();
        self.folder.put(PENDING, text.as_bytes())?;
        if pending.witnessed_at(&self.federation, now).is_some() {
            self.folder.put(CHECKPOINT, text.as_bytes())?;
        }
        self.pending = pending;
        self.tick(now)?;
        Ok(())
    }

    /// Cuts the next checkpoint when it is time to.
    pub fn tick(&mut self, now: OffsetDateTime) -> Result<(), FolderError> {
        let is_witnessed = self.pending.witnessed_at(&self.federation, now).is_some();
        let since = now - self.cut_at;
        // Before the last cut: the clock was ahead then.
        let is_time = since >= self.interval || since.is_negative();
        let due = self.tree.size() == 0 || is_witnessed || is_time;
        if self.queue.is_empty() || !due {
            return Ok(());
        }
        let mut tree = self.tree.clone();
        for entry in &self.queue {
            tree.append(entry);
        }
        let origin = &self.federation.origin;
        let pending = SignedCheckpoint::sign(origin, tree.root(), &self.key);
        // The note last: until it is there, the folder holds the tree before, and so does this.
        self.folder.write(&tree.take_files())?;
        self.folder.put(PENDING, pending.to_text().as_bytes())?;
        self.tree = tree;
        self.pending = pending;
        self.cut_at = now;
        self.queue.clear();
        self.keep_queue()?;
        Ok(())
    }
}
