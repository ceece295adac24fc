//! What reduces trust acts on sight (rule 2): a withdrawal or suspension that reached this site by
//! mail, say, while the registry is hiding it.

use std::path::{Path, PathBuf};

use renkei_federation::{Digest, Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, Statement};
use renkei_runtime::{files, state_folder::StateFolder};

use super::site_folder::{OwnError, place, put};

const FOLDER: &str = "removals";
/// Its name in state folders of earlier releases.
const OLD_FOLDER: &str = "heed";
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

/// Gives the folder of an earlier release its present name. Where that fails, what is in it is still
/// read.
pub(super) fn rename_old_folder(state: &Path) {
    let old = place(state).join(OLD_FOLDER);
    if !files::exists(&old) {
        return;
    }
    let moved = || {
        let folder = StateFolder::open(&place(state))?.subfolder(FOLDER)?;
        folder.take_over(&old).map_err(|source| OwnError::File {
            path: old.clone(),
            source,
        })
    };
    if let Err(error) = moved() {
        tracing::warn!(%error, "the imported removals stay in their old folder");
    }
}

/// What is kept, in the order of the files' names.
pub(super) fn kept(state: &Path) -> Vec<(PathBuf, Envelope)> {
    let mut kept = Vec::new();
    for folder in [OLD_FOLDER, FOLDER] {
        let mut paths = files::list(&place(state).join(folder), MOST).unwrap_or_default();
        paths.sort();
        kept.extend(paths.into_iter().filter_map(read));
    }
    kept
}

fn read(path: PathBuf) -> Option<(PathBuf, Envelope)> {
    let bytes = files::read(&path, MAX_ENVELOPE_BYTES).ok()?;
    Some((path, Envelope::parse(&bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use renkei_federation::{SigningKey, TrustDomain, Withdrawal};

    use super::*;

    fn withdrawal(seed: u8) -> Envelope {
        let trust_domain = TrustDomain::parse("tokyo.example").unwrap();
        let withdrawal = Withdrawal {
            trust_domain,
            genesis: Digest::of(&[seed]),
            reason: "the host was stolen".to_owned(),
        };
        let key = SigningKey::from_seed(&[seed; 32]).unwrap();
        Envelope::sign(Statement::Withdrawal(withdrawal), &[&key]).unwrap()
    }

    #[test]
    fn removals_of_an_earlier_release_are_read_and_move_to_the_present_folder() {
        let state = tempfile::tempdir().unwrap();
        let (earlier, later) = (withdrawal(1), withdrawal(2));
        import_removal(state.path(), &earlier.to_bytes()).unwrap();
        let folder = state.path().join("federation");
        fs::rename(folder.join("removals"), folder.join("heed")).unwrap();
        // One that comes before the first start of this release.
        import_removal(state.path(), &later.to_bytes()).unwrap();
        let find = || {
            let identities = [[1], [2]].map(|seed| Digest::of(&seed));
            identities.map(|identity| withdrawals_of(state.path(), identity).len())
        };
        assert_eq!(find(), [1, 1], "before the start");
        rename_old_folder(state.path());
        assert_eq!(find(), [1, 1], "after the start");
        assert!(!folder.join("heed").exists());
        assert_eq!(fs::read_dir(folder.join("removals")).unwrap().count(), 2);
        rename_old_folder(state.path());
        assert_eq!(find(), [1, 1], "after another start");
    }
}
