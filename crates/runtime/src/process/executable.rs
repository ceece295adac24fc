//! The file that a process runs: its path, and its digest.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use procfs::process::Process as ProcDirectory;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::{Asked, Executable};
use crate::files;

/// The largest file that is hashed.
const MAX_BYTES: u64 = 1 << 30;
/// How many digests are remembered.
const MAX_REMEMBERED: usize = 1_000;

const NOT_ASKED: &str = "it was not asked for";

/// A file as it was: any change of its content changes one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct FileVersion {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Set by the kernel alone, unlike the time of modification.
    changed: (i64, i64),
}

impl FileVersion {
    fn of(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        }
    }
}

/// SHA-256 digests of executables, so that each version of a file is read once.
#[derive(Debug, Default)]
pub struct Digests(Mutex<HashMap<FileVersion, [u8; 32]>>);

impl Digests {
    fn of(&self, mut file: File) -> Result<[u8; 32], String> {
        let version = |file: &File| file.metadata().map(|found| FileVersion::of(&found));
        let before = version(&file).map_err(|error| error.to_string())?;
        if let Some(known) = self.known().get(&before) {
            return Ok(*known);
        }
        if before.size > MAX_BYTES {
            return Err(format!(
                "the program has {} bytes, too many to hash",
                before.size
            ));
        }
        let digest = hash(&mut file).map_err(|error| error.to_string())?;
        if version(&file).ok() != Some(before) {
            return Err("the program changed while it was read".into());
        }
        let mut known = self.known();
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(before, digest);
        Ok(digest)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<FileVersion, [u8; 32]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hash(file: &mut File) -> std::io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; 64 * 1024];
    let mut file = file.take(MAX_BYTES);
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(chunk.get(..count).unwrap_or_default()),
        }
    }
}

/// Reads through the process's own `/proc/PID/exe`, never by path.
pub(super) fn read(
    process: &ProcDirectory,
    digests: &Digests,
    asked: Asked,
) -> Result<Executable, String> {
    if asked == Asked::default() {
        return Err(NOT_ASKED.into());
    }
    let path = process.exe().map_err(|error| error.to_string())?;
    // O_PATH needs no permission to read the file itself.
    let running = process
        .open_relative_flags("exe", OFlags::PATH | OFlags::CLOEXEC)
        .and_then(|file| Ok(file.metadata()?))
        .map_err(|error| error.to_string())?;
    let sha256 = if asked.sha256 {
        process
            .open_relative("exe")
            .map_err(|error| error.to_string())
            .and_then(|file| digests.of(file))
    } else {
        Err(NOT_ASKED.into())
    };
    let path = if asked.path {
        same_file(path, &running)
    } else {
        Err(NOT_ASKED.into())
    };
    Ok(Executable { path, sha256 })
}

/// A process in another mount namespace may run any file under any path, and a file may have been
/// replaced since: the path counts only if the file there is the one that runs.
fn same_file(path: PathBuf, running: &Metadata) -> Result<PathBuf, String> {
    let owned = path.clone();
    #[cfg_attr(
        not(test),
        expect(clippy::disallowed_methods, reason = "on a thread that may wait")
    )]
    let there = files::run(&path, move || fs::metadata(owned));
    match there {
        Ok(there) if (there.dev(), there.ino()) == (running.dev(), running.ino()) => Ok(path),
        Ok(_) => Err(format!(
            "the file at {} is not the one that runs",
            path.display()
        )),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
