//! Files that cannot stop the process.
//!
//! A path in a site file may lead anywhere: to a FIFO whose writer never comes, to a device, to a
//! mount whose server is gone. A thread that opens or reads such a file may wait for ever. So every
//! use of a file goes through a thread of its own, and the caller waits for a bounded time. What
//! is not a regular file is refused before it is opened, because to open a FIFO or a device already
//! does something.
//!
//! A thread that does not come back cannot be ended. The file that it waits for is refused at once
//! until it does. The number of such threads is limited for each [`Budget`] by itself: files of one
//! folder that give no answer leave those of other folders readable.
//!
//! The functions here may be called on a worker thread of a runtime: its other tasks move to
//! another thread meanwhile.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "this is where the threads are that may wait for a file"
    )
)]

use std::{
    collections::BTreeMap,
    fs::{self, File, FileType, OpenOptions},
    io::{self, Read},
    os::unix::{
        fs::{FileTypeExt, OpenOptionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::runtime::{Handle, RuntimeFlavor};

/// How long a use of a file may take.
pub const LIMIT: Duration = Duration::from_secs(5);
/// Threads of one budget that wait for files beyond their time.
const MOST_STUCK: usize = 16;

/// What a use of a file is for, which says with which others it shares the limit of stuck threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Budget {
    /// With the files in the same folder.
    Folder,
    /// With looks that only lead to warnings, in the same folder. A file that such a look waits
    /// for can still be used.
    Warnings,
    /// With site files alone, whatever else gives no answer in their folders.
    SiteFile,
    /// With all files that others cause the process to read.
    Caller,
    /// With look-ups in the user database alone.
    UserDatabase,
}

/// Uses of files that are under way beyond their time: of each budget the paths, and how many of
/// each.
type Stuck = BTreeMap<(Budget, PathBuf), BTreeMap<PathBuf, usize>>;

static STUCK: Mutex<Stuck> = Mutex::new(BTreeMap::new());

impl Budget {
    fn key(self, path: &Path) -> (Self, PathBuf) {
        let folder = match self {
            Self::Folder | Self::Warnings => path.parent().unwrap_or(path).to_owned(),
            Self::SiteFile | Self::Caller | Self::UserDatabase => PathBuf::new(),
        };
        (self, folder)
    }
}

/// One use of a file, as its thread and its caller know it.
#[derive(Debug)]
struct Use {
    budget: (Budget, PathBuf),
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// Beyond its time, and counted.
    Stuck,
    Ended,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Use {
    /// The caller does not wait for it any more.
    fn give_up(&self) {
        let mut state = lock(&self.state);
        if *state == State::Running {
            *state = State::Stuck;
            let mut stuck = lock(&STUCK);
            let paths = stuck.entry(self.budget.clone()).or_default();
            *paths.entry(self.path.clone()).or_default() += 1;
        }
    }
}

/// Ends a use when its thread ends, however it does.
struct Ending(Arc<Use>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if std::mem::replace(&mut *state, State::Ended) == State::Stuck {
            let mut stuck = lock(&STUCK);
            let Some(paths) = stuck.get_mut(&self.0.budget) else {
                return;
            };
            if let Some(count) = paths.get_mut(&self.0.path) {
                *count -= 1;
            }
            paths.retain(|_, count| *count > 0);
            if paths.is_empty() {
                stuck.remove(&self.0.budget);
            }
        }
    }
}

/// Does something with the file or folder at `path` on a thread of its own, and waits for it at
/// most for [`LIMIT`].
///
/// # Errors
/// When the work fails or takes too long, when an earlier use of the same path is still stuck, or
/// when too many other files of its folder are.
pub fn run<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    run_for(Budget::Folder, path, work)
}

/// The same, with the budget that the use is for.
///
/// # Errors
/// As for [`run`].
pub fn run_for<T: Send + 'static>(
    budget: Budget,
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    run_within(LIMIT, budget, path, work)
}

/// The same, with a limit of its own for work that reads much.
///
/// # Errors
/// As for [`run`].
pub fn run_within<T: Send + 'static>(
    limit: Duration,
    budget: Budget,
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, answer) = mpsc::sync_channel(1);
    let begun = begin(budget, path, move || {
        // The caller may be gone.
        let _ = done.send(work());
    })?;
    let waited = without_holding_up(|| answer.recv_timeout(limit));
    match waited {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(io::Error::other("reading it failed")),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            begun.give_up();
            let message = format!("it did not answer within {} s", limit.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
    }
}

fn begin(
    budget: Budget,
    path: &Path,
    work: impl FnOnce() + Send + 'static,
) -> io::Result<Arc<Use>> {
    let budget = budget.key(path);
    if let Some(paths) = lock(&STUCK).get(&budget) {
        let busy = |message| Err(io::Error::new(io::ErrorKind::TimedOut, message));
        if paths.contains_key(path) {
            return busy("an earlier use of it still gets no answer");
        }
        if paths.values().sum::<usize>() >= MOST_STUCK {
            return busy("too many other files give no answer");
        }
    }
    let begun = Arc::new(Use {
        budget,
        path: path.to_owned(),
        state: Mutex::new(State::Running),
    });
    let ending = Ending(begun.clone());
    thread::Builder::new()
        .name("file".to_owned())
        .spawn(move || {
            let _ending = ending;
            work();
        })?;
    Ok(begun)
}

/// A worker thread hands its other tasks over before it waits.
fn without_holding_up<T>(wait: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// Reads a regular file of at most `most` bytes.
///
/// # Errors
/// When it is no regular file, is longer, cannot be read, or gives no answer within [`LIMIT`].
pub fn read(path: &Path, most: usize) -> io::Result<Vec<u8>> {
    read_for(Budget::Folder, path, most)
}

/// The same, with the budget that the use is for.
///
/// # Errors
/// As for [`read`].
pub fn read_for(budget: Budget, path: &Path, most: usize) -> io::Result<Vec<u8>> {
    let owned = path.to_owned();
    run_for(budget, path, move || read_file(open(&owned)?, most))
}

/// The same for a text in UTF-8.
///
/// # Errors
/// As for [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, most: usize) -> io::Result<String> {
    text(read(path, most)?)
}

/// The text that a file holds.
///
/// # Errors
/// When it is not UTF-8.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidData, "it is not a text in UTF-8");
    String::from_utf8(bytes).map_err(invalid)
}

/// Reads a file that [`open`] has opened; only within [`run`].
///
/// # Errors
/// When it is longer than `most` bytes, or cannot be read.
pub fn read_file(file: File, most: usize) -> io::Result<Vec<u8>> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX);
    let too_large = || {
        let message = format!("it has more than {most} bytes");
        Err(io::Error::new(io::ErrorKind::FileTooLarge, message))
    };
    if file.metadata()?.len() > limit {
        return too_large();
    }
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    match bytes.len() > most {
        true => too_large(),
        false => Ok(bytes),
    }
}

/// Opens a regular file for reading; only within [`run`].
///
/// # Errors
/// When it is no regular file, or the system refuses.
pub fn open(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path)
}

/// Opens a regular file as the options say, which may make it; only within [`run`].
///
/// # Errors
/// When it is no regular file, or the system refuses.
pub fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    check_regular(path)?;
    // It may have been replaced meanwhile: opening must not wait, and is judged again.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = options.custom_flags(flags).open(path)?;
    regular(file.metadata()?.file_type())?;
    Ok(file)
}

/// Refuses what is there and is no regular file.
///
/// # Errors
/// When something else has the name, or the system refuses to say.
pub fn check_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) => regular(there.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn regular(kind: FileType) -> io::Result<()> {
    let what = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    let message = format!("it is {what}, and not a regular file");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

/// Connects to the unix socket at `path`, for use in a runtime.
///
/// # Errors
/// When nothing accepts there, or there is no answer within [`LIMIT`]: the path may lead to a hung
/// mount, and a listener may have no room.
pub fn connect(path: &Path) -> io::Result<UnixStream> {
    let owned = path.to_owned();
    run(path, move || {
        let stream = UnixStream::connect(owned)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    })
}

/// Whether something is there; what gives no answer is not.
pub fn exists(path: &Path) -> bool {
    let owned = path.to_owned();
    run(path, move || Ok(owned.exists())).unwrap_or(false)
}

/// The paths of what is in a folder, at most `most` of them.
///
/// # Errors
/// When it cannot be read, or gives no answer within [`LIMIT`].
pub fn list(folder: &Path, most: usize) -> io::Result<Vec<PathBuf>> {
    let owned = folder.to_owned();
    run(folder, move || {
        let entries = fs::read_dir(owned)?.take(most);
        entries.map(|entry| Ok(entry?.path())).collect()
    })
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType as Kind, Mode, mknodat};

    use super::*;

    fn fifo(folder: &Path) -> PathBuf {
        let path = folder.join("fifo");
        mknodat(CWD, &path, Kind::Fifo, Mode::from(0o600), 0).unwrap();
        path
    }

    #[test]
    fn a_regular_file_is_read_within_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy");
        fs::write(&path, "0123456789").unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"0123456789");
        assert_eq!(read_text(&path, 10).unwrap(), "0123456789");
        let error = read(&path, 9).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(read(&link, 10).unwrap(), b"0123456789");
        // The size that the kernel gives is 0.
        assert!(
            !read(Path::new("/proc/self/stat"), 10_000)
                .unwrap()
                .is_empty()
        );
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(
            read_text(&path, 10).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }

    #[test]
    fn what_is_no_regular_file_is_refused_by_its_kind() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (fifo(folder.path()), "it is a FIFO"),
            (socket, "it is a socket"),
            ("/dev/zero".into(), "it is a device"),
            ("/dev/null".into(), "it is a device"),
        ] {
            let error = read(&path, 10).unwrap_err().to_string();
            assert!(error.starts_with(what), "{}: {error}", path.display());
        }
        let error = read(folder.path(), 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
        let missing = read(&folder.path().join("gone"), 10).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        // To open one for writing would wait for a reader.
        let mut options = OpenOptions::new();
        let lock = open_with(
            options.write(true).create(true),
            &folder.path().join("fifo"),
        );
        assert!(lock.unwrap_err().to_string().starts_with("it is a FIFO"));
    }

    #[test]
    fn a_file_that_gives_no_answer_is_given_up_and_costs_one_thread() {
        let short = Duration::from_millis(20);
        let path = Path::new("/mount/that/hangs");
        let (answer, answers) = mpsc::channel::<()>();
        let hang = move || {
            let _ = answers.recv();
            Ok(())
        };
        let error = run_within(short, Budget::Folder, path, hang).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        for _ in 0..100 {
            let again = run_within(short, Budget::Folder, path, || Ok(())).unwrap_err();
            assert!(again.to_string().contains("earlier use"), "{again}");
        }
        run(Path::new("/another"), || Ok(())).unwrap();
        drop(answer);
        while run(path, || Ok(())).is_err() {
            thread::yield_now();
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn other_tasks_of_a_worker_go_on_while_one_waits_for_a_file() {
        let (answer, answers) = mpsc::channel::<()>();
        let waiting = tokio::spawn(async move {
            run(Path::new("/slow"), move || {
                answers.recv().map_err(io::Error::other)
            })
        });
        // The only worker would be the one that waits.
        tokio::spawn(async move { answer.send(()) })
            .await
            .unwrap()
            .unwrap();
        waiting.await.unwrap().unwrap();
    }
}
