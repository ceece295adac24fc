//! What one site has seen of the log, and how it is continued: all or nothing, forward only.
//!
//! ```text
//!            entries:  0 ........ basis ........ newest
//!            state:    counted in        reduces trust only
//! ```
//!
//! The *basis* is the newest checkpoint with a quorum of witnesses. What the log has signed after
//! it is replayed and remembered, so that it can never be taken back unnoticed, but only what
//! reduces trust acts before witnesses have seen it.

use std::{collections::VecDeque, sync::Arc};

use time::{Duration, OffsetDateTime};

use crate::{
    CheckpointError, Envelope, Federation, SignedCheckpoint,
    log::Tree,
    replay::{State, StatementRefusal},
};

/// A checkpoint whose quorum is older says nothing about today.
pub const FRESHNESS: Duration = Duration::hours(24);
/// Entries that no quorum has seen are kept up to this number.
const MAX_UNWITNESSED: u64 = 2_000;

/// Two checkpoints that the log has signed and that do not extend one another: proof that it
/// shows different histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The checkpoint that was seen first, as a note.
    pub ours: String,
    /// The one that contradicts it.
    pub theirs: String,
}

/// Why what a mirror offers is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// Not a checkpoint of this log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log has signed two histories.
    #[error(
        "the log has signed two histories: {} does not extend the checkpoint seen before; updates stop, and both are kept as proof", first_lines(&.0.theirs)
    )]
    Fork(Box<Fork>),
    /// The entries do not add up to the checkpoint.
    #[error("the entries of the mirror do not add up to its checkpoint of {size} entries")]
    Entries {
        /// Entries that the checkpoint promises.
        size: u64,
    },
    /// Fewer entries than the checkpoint says.
    #[error("the mirror ends at entry {have}, its checkpoint has {size}")]
    Short {
        /// Entries that the mirror gave.
        have: u64,
        /// Entries that the checkpoint promises.
        size: u64,
    },
    /// More entries without witnesses than are kept.
    #[error("the log runs {0} entries ahead of its witnesses")]
    Unwitnessed(u64),
}

fn first_lines(note: &str) -> String {
    note.lines().take(3).collect::<Vec<_>>().join(" ")
}

/// The newest checkpoint with a quorum.
#[derive(Debug, Clone)]
pub struct Basis {
    /// With every cosignature seen.
    pub checkpoint: SignedCheckpoint,
    /// The time that the quorum vouches for.
    pub witnessed_at: OffsetDateTime,
}

/// What was seen of the log.
#[derive(Debug, Clone)]
pub struct View {
    federation: Arc<Federation>,
    tree: Tree,
    newest: Option<SignedCheckpoint>,
    basis: Option<Basis>,
    /// As of the basis.
    counted: Arc<State>,
    /// The entries after the basis.
    ahead: VecDeque<Vec<u8>>,
    /// The same, and what reduces trust among the entries ahead.
    state: Arc<State>,
}

impl View {
    /// The view of a site that has read nothing yet.
    pub fn new(federation: Arc<Federation>) -> Self {
        Self {
            federation,
            tree: Tree::default(),
            newest: None,
            basis: None,
            counted: Arc::default(),
            ahead: VecDeque::new(),
            state: Arc::default(),
        }
    }

    /// The federation it is of.
    pub fn federation(&self) -> &Arc<Federation> {
        &self.federation
    }

    /// How many entries were seen.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root that the log had when it had `size` entries, if so many were seen.
    pub fn root_at(&self, size: u64) -> Option<crate::log::Root> {
        self.tree.root_at(size)
    }

    /// The state that trust is decided by.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The largest checkpoint seen: what a witness cosigns.
    pub fn newest(&self) -> Option<&SignedCheckpoint> {
        self.newest.as_ref()
    }

    /// Lets a statement that reduces trust act on sight, however it came here, until the view is
    /// extended the next time. `Ok(false)` when it is not of that kind.
    pub fn import_removal(&mut self, envelope: &Envelope) -> Result<bool, StatementRefusal> {
        if !envelope.statement().reduces_trust() {
            return Ok(false);
        }
        let index = self.tree.size();
        let state = Arc::make_mut(&mut self.state);
        state
            .judge(&self.federation, index, envelope)
            .map(|()| true)
    }

    /// The newest checkpoint with a quorum.
    pub fn basis(&self) -> Option<&Basis> {
        self.basis.as_ref()
    }

    /// Files of the log that are new since the last call, for a copy of it.
    pub fn take_files(&mut self) -> Vec<crate::log::File> {
        self.tree.take_files()
    }

    /// From here on the files of what was seen are known to be there.
    pub fn files_are_there(&mut self) {
        self.tree.files_are_there();
    }

    /// Begins to take what a mirror offers: `checkpoint`, witnessed as it claims, and the newest
    /// one, `pending`, if it has one. `fresh` asks that a new quorum is not older than
    /// [`FRESHNESS`]; what this site itself has kept was fresh when it was taken.
    pub fn extend(
        &self,
        checkpoint: Option<&[u8]>,
        pending: Option<&[u8]>,
        fresh: bool,
        now: OffsetDateTime,
    ) -> Result<Extension, UpdateError> {
        let read = |note: Option<&[u8]>| {
            note.map(|note| SignedCheckpoint::parse(note, &self.federation))
                .transpose()
        };
        let offered: Vec<_> = [read(checkpoint)?, read(pending)?]
            .into_iter()
            .flatten()
            .collect();
        for one in &offered {
            self.compare(one)?;
        }
        let mut basis = self.basis.clone();
        for one in &offered {
            basis = better(basis, one, &self.federation, fresh, now);
        }
        let newest = self
            .newest
            .iter()
            .chain(&offered)
            .max_by_key(|one| one.root().size);
        let mut next = self.clone();
        next.newest = newest.cloned();
        next.basis = basis;
        Ok(Extension { next, offered })
    }

    /// Compares with a checkpoint that another reader has seen. Every root up to here is known, so
    /// two histories show at once; of a larger tree nothing can be said yet.
    pub fn compare(&self, offered: &SignedCheckpoint) -> Result<(), UpdateError> {
        let root = offered.root();
        let same = self.tree.root_at(root.size).is_none_or(|ours| ours == root);
        match &self.newest {
            _ if same => Ok(()),
            Some(newest) => Err(UpdateError::Fork(Box::new(Fork {
                ours: newest.to_text(),
                theirs: offered.to_text(),
            }))),
            None => Err(UpdateError::Entries { size: root.size }),
        }
    }

    /// For a mirror that ran ahead and did not add up: whether `other`, replayed from the very
    /// beginning with what that mirror has, is another history.
    pub fn fork_with(&self, other: &Self) -> Option<Fork> {
        let common = self.size().min(other.size());
        let (ours, theirs) = (self.newest.as_ref()?, other.newest.as_ref()?);
        (self.tree.root_at(common) != other.tree.root_at(common)).then(|| Fork {
            ours: ours.to_text(),
            theirs: theirs.to_text(),
        })
    }

    /// The number of the first entry that is not in the state yet.
    fn first_ahead(&self) -> u64 {
        let ahead = u64::try_from(self.ahead.len()).unwrap_or(u64::MAX);
        self.tree.size().saturating_sub(ahead)
    }

    fn witnessed(&self) -> u64 {
        let basis = self.basis.as_ref();
        basis.map_or(0, |basis| basis.checkpoint.root().size)
    }

    /// Takes the entries up to the basis into the state.
    fn count(&mut self) {
        while self.first_ahead() < self.witnessed() {
            let index = self.first_ahead();
            let Some(entry) = self.ahead.pop_front() else {
                return;
            };
            Arc::make_mut(&mut self.counted).apply(&self.federation, index, &entry);
        }
    }

    /// What reduces trust after the basis.
    fn look_ahead(&mut self) {
        self.state = self.counted.clone();
        for (index, entry) in (self.first_ahead()..).zip(&self.ahead) {
            if let Ok(envelope) = Envelope::parse(entry)
                && envelope.statement().reduces_trust()
            {
                // One that does not count is refused, and reported, when witnesses have seen it.
                let state = Arc::make_mut(&mut self.state);
                let _ = state.judge(&self.federation, index, &envelope);
            }
        }
    }
}

/// The better of the basis and a checkpoint that is offered.
fn better(
    basis: Option<Basis>,
    offered: &SignedCheckpoint,
    federation: &Federation,
    fresh: bool,
    now: OffsetDateTime,
) -> Option<Basis> {
    let mut checkpoint = offered.clone();
    if let Some(basis) = &basis {
        checkpoint.merge(&basis.checkpoint, federation, now);
    }
    let witnessed_at = checkpoint.witnessed_at(federation, now);
    let witnessed_at = witnessed_at.filter(|at| !fresh || now - *at <= FRESHNESS);
    match (basis, witnessed_at) {
        (basis, None) => basis,
        (Some(basis), Some(_)) if basis.checkpoint.root().size > checkpoint.root().size => {
            Some(basis)
        }
        (_, Some(witnessed_at)) => Some(Basis {
            checkpoint,
            witnessed_at,
        }),
    }
}

/// A view that is being extended. Dropping it changes nothing.
#[derive(Debug)]
pub struct Extension {
    next: View,
    offered: Vec<SignedCheckpoint>,
}

impl Extension {
    /// The number of the entry that is wanted next, if any is.
    pub fn wants(&self) -> Option<u64> {
        let (have, size) = (self.next.tree.size(), self.size());
        (have < size).then_some(have)
    }

    /// The size that the log is to have.
    pub fn size(&self) -> u64 {
        self.next
            .newest
            .as_ref()
            .map_or(0, |newest| newest.root().size)
    }

    /// The size of the largest tree that was offered, which may be smaller than what is known.
    pub fn offered(&self) -> u64 {
        let sizes = self.offered.iter().map(|one| one.root().size);
        sizes.max().unwrap_or(0)
    }

    /// Takes the next entry.
    pub fn push(&mut self, entry: &[u8]) -> Result<(), UpdateError> {
        let view = &mut self.next;
        if !view.tree.append(entry) {
            let size = view.tree.size();
            return Err(UpdateError::Entries { size });
        }
        let size = view.tree.size();
        let add_up = |one: &SignedCheckpoint| {
            one.root().size != size || view.tree.root_at(size) == Some(one.root())
        };
        if !self.offered.iter().all(add_up) {
            return Err(UpdateError::Entries { size });
        }
        view.ahead.push_back(entry.to_vec());
        view.count();
        match size.saturating_sub(view.witnessed()) {
            ahead if ahead > MAX_UNWITNESSED => Err(UpdateError::Unwitnessed(ahead)),
            _ => Ok(()),
        }
    }

    /// Files of the log that are complete by now, for a copy of it.
    pub fn take_files(&mut self) -> Vec<crate::log::File> {
        self.next.tree.take_files()
    }

    /// The view with everything that was offered, if all of it has come and adds up.
    pub fn finish(mut self) -> Result<View, UpdateError> {
        let (have, size) = (self.next.tree.size(), self.size());
        if have < size {
            return Err(UpdateError::Short { have, size });
        }
        self.next.count();
        self.next.look_ahead();
        Ok(self.next)
    }
}
