//! Programs that the demo starts. None outlives it, however it ends.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, Command},
    time::timeout,
};

/// A command that the kernel kills with the demo, even when the demo itself is killed; outside the
/// terminal's process group, so that Ctrl-C reaches the demo alone and it can clean up in order.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg("--pdeathsig")
        .arg("KILL")
        .arg("--")
        .arg(program);
    command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .process_group(0);
    command
}

/// A running program whose output goes to a log file.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    pub(super) fn start(name: &str, mut command: Command, log: &Path) -> io::Result<Self> {
        let output = File::options().create(true).append(true).open(log)?;
        command.stdout(output.try_clone()?).stderr(output);
        Ok(Self {
            name: name.to_owned(),
            child: command.spawn()?,
            log: log.to_owned(),
        })
    }

    /// The exit status as text and the end of the log, when the program has ended.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        let ended = format!("{} ended: {status}", self.name);
        Some(match last_lines(&self.log) {
            lines if lines.is_empty() => ended,
            lines => format!("{ended}; the last lines of its log:\n{lines}"),
        })
    }

    /// SIGKILL, and waits for the end.
    pub(super) async fn kill(&mut self) {
        let _ = self.child.kill().await;
    }

    /// SIGTERM, and SIGKILL when the program has not ended within the limit.
    pub(super) async fn stop(&mut self, limit: Duration) {
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if timeout(limit, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }
}

/// What people need to see of a log: its folder may be gone before they can look.
fn last_lines(log: &Path) -> String {
    const SHOWN: usize = 8;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(SHOWN);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// A program that prints a JSON object a line and ends when its standard input closes.
#[derive(Debug)]
pub(super) struct Program {
    process: Process,
    input: Option<ChildStdin>,
    latest: Arc<Mutex<Value>>,
}

impl Program {
    /// Starts `command`; its errors go to `log`.
    pub(super) fn start(name: &str, mut command: Command, log: &Path) -> io::Result<Self> {
        let errors = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut child = command.spawn()?;
        let latest = Arc::new(Mutex::new(Value::Null));
        if let Some(output) = child.stdout.take() {
            let latest = latest.clone();
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if let Ok(value) = serde_json::from_str(&line) {
                        *latest.lock().unwrap_or_else(PoisonError::into_inner) = value;
                    }
                }
            });
        }
        let input = child.stdin.take();
        Ok(Self {
            process: Process {
                name: name.to_owned(),
                child,
                log: log.to_owned(),
            },
            input,
            latest,
        })
    }

    /// The last object that the program printed.
    pub(super) fn latest(&self) -> Value {
        self.latest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the program to end.
    pub(super) fn finish(&mut self) {
        self.input = None;
    }

    /// Asks the program to end and waits; kills it after the limit.
    pub(super) async fn stop(&mut self, limit: Duration) {
        self.finish();
        if timeout(limit, self.process.child.wait()).await.is_err() {
            self.process.kill().await;
        }
    }

    /// The exit status as text, when the program has ended.
    pub(super) fn ended(&mut self) -> Option<String> {
        self.process.ended()
    }
}
