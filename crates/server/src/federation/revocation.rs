//! What reduces trust acts on sight (rule 2): a withdrawal or suspension that reached this site by
//! mail, say, while the registry is hiding it.

use std::path::{Path, PathBuf};

use renkei_federation::{Digest, Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, Statement};
use renkei_runtime::{files, state_folder::StateFolder};

use super::site_folder::{OwnError, place, put};

/// Named so in state folders of earlier releases.
const FOLDER: &str = "heed";
const MOST: usize = 1_000;

/// Why a statement cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum RemovalError {
    /// The file holds no signed statement.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// It would add trust, which only the log can.
    #[error("a {0} statement does not reduce trust, so only the log can make it valid")]
    Kind(&'static str),
    /// The site's folder of the federation cannot be used.
    #[error(transparent)]
    Own(#[from] OwnError),
}

/// Keeps a statement that the site applies from its next look at the log on. Whether it is
/// signed by whom it has to be is judged then.
pub fn import_removal(state: &Path, bytes: &[u8]) -> Result<PathBuf, RemovalError> {
    let envelope = Envelope::parse(bytes)?;
    let statement = envelope.statement();
    if !statement.reduces_trust() {
        return Err(RemovalError::Kind(statement.kind()));
    }
    let state = StateFolder::open(state).map_err(OwnError::from)?;
    let folder = state.subfolder("federation").map_err(OwnError::from)?;
    let folder = folder.subfolder(FOLDER).map_err(OwnError::from)?;
    let path = folder.join(format!("{}.json", envelope.digest().short()));
    put(&path, &envelope.to_bytes())?;
    Ok(path)
}

/// The withdrawals of one identity that are kept. Whether the right keys have signed them is for
/// the caller.
pub(crate) fn withdrawals_of(state: &Path, identity: Digest) -> Vec<Envelope> {
    let withdraws = |envelope: &Envelope| matches!(envelope.statement(), Statement::Withdrawal(it) if it.genesis == identity);
    let kept = kept(state).into_iter().map(|(_, envelope)| envelope);
    kept.filter(withdraws).collect()
}

/// What is kept, in the order of the files' names.
pub(super) fn kept(state: &Path) -> Vec<(PathBuf, Envelope)> {
    let folder = place(state).join(FOLDER);
    let Ok(mut paths) = files::list(&folder, MOST) else {
        return Vec::new();
    };
    paths.sort();
    let read = |path: PathBuf| {
        let envelope = Envelope::parse(&files::read(&path, MAX_ENVELOPE_BYTES).ok()?).ok()?;
        Some((path, envelope))
    };
    paths.into_iter().filter_map(read).collect()
}
