//! The file that a process runs: its path, and its digest.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest;
use procfs::process::Process as ProcDirectory;
use rustix::fs::OFlags;

use super::{Asked, Executable};
use crate::files::{self, Budget};

/// The largest file that is hashed.
const MAX_BYTES: u64 = 1 << 30;
/// How long a program may take to be hashed.
const HASH_LIMIT: Duration = Duration::from_secs(60);
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
#[derive(Debug, Clone, Default)]
pub struct Digests(Arc<Mutex<HashMap<FileVersion, [u8; 32]>>>);

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
    let mut hasher = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; 64 * 1024];
    let mut file = file.take(MAX_BYTES);
    loop {
        match file.read(&mut chunk)? {
            0 => break,
            count => hasher.update(chunk.get(..count).unwrap_or_default()),
        }
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(hasher.finish().as_ref());
    Ok(digest)
}

/// Reads through the process's own `/proc/PID/exe`, never by path. The file may be anywhere, for
/// any user starts programs: one that no selector can match is left alone, and the others are read
/// on a thread that may wait.
pub(super) fn read(
    process: &Arc<ProcDirectory>,
    digests: &Digests,
    asked: &Asked,
) -> Result<Executable, String> {
    if !asked.path && !asked.sha256 {
        return Err(NOT_ASKED.into());
    }
    let path = process.exe().map_err(|error| error.to_string())?;
    let wanted = asked.paths.is_empty() || asked.paths.contains(&path);
    if asked.path && !wanted && !asked.sha256 {
        return Ok(Executable {
            path: Err(not_named(&path)),
            sha256: Err(NOT_ASKED.into()),
        });
    }
    let (process, digests, program) = (process.clone(), digests.clone(), path.clone());
    let (path_asked, sha256_asked) = (asked.path, asked.sha256);
    let limit = match sha256_asked {
        true => HASH_LIMIT,
        false => files::LIMIT,
    };
    let read = files::run_within(limit, Budget::Caller, &path, move || {
        let path = match (path_asked, wanted) {
            (true, true) => same_file(program, &process),
            (true, false) => Err(not_named(&program)),
            (false, _) => Err(NOT_ASKED.into()),
        };
        let sha256 = match sha256_asked {
            true => process
                .open_relative("exe")
                .map_err(|error| error.to_string())
                .and_then(|file| digests.of(file)),
            false => Err(NOT_ASKED.into()),
        };
        Ok(Executable { path, sha256 })
    });
    read.map_err(|error| format!("{}: {error}", path.display()))
}

fn not_named(path: &Path) -> String {
    format!("the process runs {}", path.display())
}

/// A process in another mount namespace may run any file under any path, and a file may have been
/// replaced since: the path counts only if the file there is the one that runs.
fn same_file(path: PathBuf, process: &ProcDirectory) -> Result<PathBuf, String> {
    // O_PATH needs no permission to read the file itself.
    let running = process
        .open_relative_flags("exe", OFlags::PATH | OFlags::CLOEXEC)
        .and_then(|file| Ok(file.metadata()?))
        .map_err(|error| error.to_string())?;
    #[cfg_attr(
        not(test),
        expect(clippy::disallowed_methods, reason = "on a thread that may wait")
    )]
    let there = fs::metadata(&path);
    match there {
        Ok(there) if (there.dev(), there.ino()) == (running.dev(), running.ino()) => Ok(path),
        Ok(_) => Err(format!(
            "the file at {} is not the one that runs",
            path.display()
        )),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}
