//! Programs that are measured: started, watched through /proc, and always ended.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::error::BenchError;

/// How long a program may take to be ready.
pub(crate) const READY: Duration = Duration::from_secs(30);

/// A running program; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts it with its output in a log file in `folder`.
    pub(crate) fn start(
        name: &str,
        folder: &Path,
        mut command: Command,
    ) -> Result<Self, BenchError> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).map_err(BenchError::file(&log))?;
        let errors = output.try_clone().map_err(BenchError::file(&log))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(|error| BenchError::Program {
                program: name.to_owned(),
                error,
            })?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Waits until `ready` gives something; an end of the program is an error.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        mut ready: impl FnMut() -> Option<T>,
    ) -> Result<T, BenchError> {
        let limit = Instant::now() + READY;
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            let what = || format!("{}: {what}", self.name);
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                let said = self.said();
                return Err(BenchError::Failed { what: what(), said });
            }
            if Instant::now() > limit {
                return Err(BenchError::Late {
                    what: what(),
                    seconds: READY.as_secs(),
                    said: self.said(),
                });
            }
            sleep(Duration::from_millis(50));
        }
    }

    /// What it wrote so far.
    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Processor seconds that its threads used so far, in user and kernel mode.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, BenchError> {
        let stat = self.look("stat")?;
        // Fields are counted behind the program's name, which may hold spaces itself.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let mut ticks = fields.split_whitespace().skip(11);
        let mut next = || ticks.next().and_then(|field| field.parse::<f64>().ok());
        let used = next().zip(next()).map(|(user, kernel)| user + kernel);
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        used.map(|ticks| ticks / per_second)
            .ok_or_else(|| self.fault(io::Error::other("no processor times in /proc")))
    }

    /// Bytes of memory that it holds now.
    pub(crate) fn resident_bytes(&self) -> Result<u64, BenchError> {
        let memory = self.look("statm")?;
        let pages = memory
            .split(' ')
            .nth(1)
            .and_then(|field| field.parse::<u64>().ok());
        pages
            .map(|pages| pages * rustix::param::page_size() as u64)
            .ok_or_else(|| self.fault(io::Error::other("no memory in /proc")))
    }

    fn look(&self, file: &str) -> Result<String, BenchError> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
            .map_err(|error| self.fault(error))
    }

    fn fault(&self, error: io::Error) -> BenchError {
        BenchError::Program {
            program: self.name.clone(),
            error,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end and gives its standard output.
pub(crate) fn output(name: &str, command: &mut Command) -> Result<String, BenchError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| BenchError::Program {
            program: name.to_owned(),
            error,
        })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(BenchError::Failed {
        what: name.to_owned(),
        said: text(&output.stdout) + &text(&output.stderr),
    })
}

/// Where a program is, on the search path of the system.
pub(crate) fn find(program: &str) -> Result<PathBuf, BenchError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| BenchError::Missing {
            program: program.to_owned(),
        })
}
