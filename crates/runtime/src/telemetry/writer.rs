//! How log lines reach standard error: through a bounded queue, written by one thread of its own.
//!
//! Who logs never waits and never fails, whatever standard error is: a full disk, a pipe whose
//! reader is slow or dead, a closed socket of the journal. Lines that find no room, or that cannot
//! be written, are counted; the next line that can be written says how many.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::fd::AsFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait to be written; some 20,000 lines.
const MOST_WAITING: usize = 4 * 1024 * 1024;
/// After a line could not be written.
const PAUSE: Duration = Duration::from_millis(100);

/// The queue of this process, once logs are set up.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Lines on their way to the thread that writes them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There is a line.
    filled: Condvar,
    /// A line was written or given up.
    advanced: Condvar,
    /// The thread that writes. What it logs itself always finds room.
    writer: OnceLock<ThreadId>,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// A line is being written now.
    writing: bool,
    /// The last line could not be written.
    failing: bool,
    /// Lines lost since the process began.
    dropped: u64,
    /// Those of them that a line of the log has reported.
    reported: u64,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let own = self.writer.get() == Some(&thread::current().id());
        let mut state = self.lock();
        if !own && state.bytes.saturating_add(line.len()) > MOST_WAITING {
            state.dropped += 1;
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        self.filled.notify_one();
    }

    /// The next line, once there is one.
    fn take(&self) -> Vec<u8> {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.len();
                state.writing = true;
                return line;
            }
            let waited = self.filled.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes how writing went. Gives the number of lost lines that no line has reported, if a line
    /// can be written again.
    fn written(&self, success: bool) -> Option<u64> {
        let mut state = self.lock();
        state.writing = false;
        state.failing = !success;
        self.advanced.notify_all();
        if !success {
            state.dropped += 1;
            return None;
        }
        let new = state.dropped - state.reported;
        state.reported = state.dropped;
        (new > 0).then_some(new)
    }

    /// Waits until every line is written, at most for `limit`, and not at all while none can be.
    fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        while (state.writing || !state.lines.is_empty()) && !state.failing {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.advanced.wait_timeout(state, left);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Writes lines for ever. `tell` logs how many were lost.
    fn run(&self, mut out: impl Write, tell: impl Fn(u64)) {
        let _ = self.writer.set(thread::current().id());
        // A line that was cut short gets its end before the next one begins.
        let mut cut = false;
        loop {
            let mut line = self.take();
            if cut {
                line.insert(0, b'\n');
            }
            let (done, result) = write_whole(&mut out, &line);
            cut = match result {
                Ok(()) => false,
                Err(_) => done > 0 || cut,
            };
            if let Some(lost) = self.written(result.is_ok()) {
                tell(lost);
            }
            if result.is_err() {
                thread::sleep(PAUSE);
            }
        }
    }
}

/// How many bytes were written, and whether that is all of them.
fn write_whole(out: &mut impl Write, line: &[u8]) -> (usize, io::Result<()>) {
    let mut done = 0;
    while let Some(rest) = line.get(done..).filter(|rest| !rest.is_empty()) {
        match out.write(rest) {
            Ok(0) => return (done, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Standard error without the lock of the standard library: a write that blocks does not block others.
struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let stderr = io::stderr();
        loop {
            match rustix::io::write(stderr.as_fd(), bytes) {
                // Another process that shares this file has made it non-blocking.
                Err(Errno::AGAIN) => {
                    let mut wanted = [PollFd::new(&stderr, PollFlags::OUT)];
                    poll(&mut wanted, None)?;
                }
                other => return Ok(other?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `tracing` writes one event to.
#[derive(Debug, Clone)]
pub(super) struct LineWriter(Arc<Queue>);

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for LineWriter {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// Starts the thread that writes to standard error, once in a process.
pub(super) fn start() -> io::Result<LineWriter> {
    let queue = QUEUE.get_or_init(Arc::default).clone();
    let written = queue.clone();
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            written.run(StandardError, |lines| {
                tracing::error!(
                    lines,
                    "lines of this log are lost: they could not be written"
                );
            });
        })?;
    Ok(LineWriter(queue))
}

/// Lines of the log that were lost since the process began.
pub(super) fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lock().dropped)
}

/// Writes a text to standard error behind the lines of the log; `false` when no log is set up.
pub fn say(text: &str) -> bool {
    let Some(queue) = QUEUE.get() else {
        return false;
    };
    queue.push(format!("{text}\n").as_bytes());
    true
}

/// Waits until the log is written, at most for `limit`: before the process ends.
pub fn flush(limit: Duration) {
    if let Some(queue) = QUEUE.get() {
        queue.flush(limit);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Takes bytes only when the test says so: so many, or an error.
    struct Slow(mpsc::Receiver<io::Result<usize>>, mpsc::Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let allowed = self.0.recv().unwrap_or_else(|_| {
                loop {
                    thread::park();
                }
            })?;
            let count = allowed.min(bytes.len());
            self.1.send(bytes[..count].to_vec()).unwrap();
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type Ends = (
        Arc<Queue>,
        mpsc::Sender<io::Result<usize>>,
        mpsc::Receiver<Vec<u8>>,
    );

    fn started() -> Ends {
        let queue = Arc::new(Queue::default());
        let (allow, allowed) = mpsc::channel();
        let (written, seen) = mpsc::channel();
        let (run, tell) = (queue.clone(), queue.clone());
        thread::spawn(move || {
            run.run(Slow(allowed, written), |lost| {
                tell.push(format!("lost {lost}\n").as_bytes());
            });
        });
        (queue, allow, seen)
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up_and_says_what_it_lost() {
        let (queue, allow, seen) = started();
        let line = [b'x'; 1024];
        let count = 3 * MOST_WAITING / line.len();
        for _ in 0..count {
            queue.push(&line);
        }
        assert!(queue.lock().bytes <= MOST_WAITING);
        let lost = queue.lock().dropped;
        assert!(lost > 0);
        let kept = count as u64 - lost;
        for _ in 0..=kept {
            allow.send(Ok(usize::MAX)).unwrap();
        }
        for _ in 0..kept {
            assert_eq!(seen.recv_timeout(LONG).unwrap(), line);
        }
        let reported = String::from_utf8(seen.recv_timeout(LONG).unwrap()).unwrap();
        assert_eq!(reported, format!("lost {lost}\n"));
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_of_when_they_can_be() {
        let (queue, allow, seen) = started();
        for line in ["one\n", "two\n", "three\n"] {
            queue.push(line.as_bytes());
        }
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        // The second is cut short.
        allow.send(Ok(2)).unwrap();
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        for _ in 0..2 {
            allow.send(Ok(usize::MAX)).unwrap();
        }
        let mut text = Vec::new();
        while !text.ends_with(b"lost 2\n") {
            text.extend(seen.recv_timeout(LONG).unwrap());
        }
        assert_eq!(String::from_utf8(text).unwrap(), "tw\nthree\nlost 2\n");
        assert_eq!(queue.lock().dropped, 2);
    }

    #[test]
    fn a_flush_waits_for_lines_and_not_for_a_log_that_cannot_be_written() {
        let (queue, allow, seen) = started();
        queue.push(b"last\n");
        allow.send(Ok(usize::MAX)).unwrap();
        queue.flush(LONG);
        assert_eq!(seen.try_recv().unwrap(), b"last\n");
        queue.push(b"never\n");
        allow.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        queue.flush(LONG);
        assert_eq!(queue.lock().dropped, 1);
        // Blocked for ever: the limit ends the wait.
        queue.push(b"stuck\n");
        queue.flush(Duration::from_millis(50));
        assert!(seen.try_recv().is_err());
    }
}
