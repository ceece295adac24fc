//! The copy of the log in the state folder: the last good state, and a mirror like any other.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use renkei_federation::{Digest, Federation, Fork, View, log};
use renkei_runtime::{files, state_folder::write_private};

/// A copy of one federation's log.
#[derive(Debug, Clone)]
pub struct LogCache {
    folder: PathBuf,
}

impl LogCache {
    /// The copy's place below the folder of federations; another log has another place.
    pub(super) fn of(below: &Path, federation: &Federation) -> Self {
        let log = format!("{} {}", federation.origin, federation.log_key);
        let name = format!("log-{}", Digest::of(log.as_bytes()).short());
        Self {
            folder: below.join(name),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// Writes files of entries and hashes. They count once a checkpoint is there that covers them.
    pub(super) fn write(&self, files: &[log::File]) -> io::Result<()> {
        for file in files {
            self.put(&file.path, &file.bytes)?;
            // A partial file may go once the full one is there.
            let partial = self.folder.join(format!("{}.p", file.path));
            let _ = files::run(&partial.clone(), move || fs::remove_dir_all(partial));
        }
        Ok(())
    }

    /// Makes a view the last good state: the moment at which all that was written counts.
    pub(super) fn commit(&self, view: &mut View) -> io::Result<()> {
        self.write(&view.take_files())?;
        if let Some(newest) = view.newest() {
            self.put("pending", newest.to_text().as_bytes())?;
        }
        if let Some(basis) = view.basis() {
            self.put("checkpoint", basis.checkpoint.to_text().as_bytes())?;
        }
        Ok(())
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.folder.join(name);
        if let Some(folder) = path.parent() {
            let owned = folder.to_owned();
            files::run(folder, move || fs::create_dir_all(owned))?;
        }
        write_private(&path, bytes)
    }

    /// Where proof of two histories is kept. While it is there, nothing is taken from anywhere.
    pub(super) fn proof(&self) -> PathBuf {
        self.folder.with_extension("fork")
    }

    pub(super) fn keep_proof(&self, fork: &Fork) -> io::Result<()> {
        let text = format!("{}\n{}", fork.ours, fork.theirs);
        write_private(&self.proof(), text.as_bytes())
    }
}
