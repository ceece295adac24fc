//! The WAN as its user holds it.

use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use thiserror::Error;

use crate::{
    link::{Link, Shared},
    namespace::{Namespace, NamespaceError, Profile},
    path::{Path, PathError},
};

/// One end of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The near end, 10.77.0.1.
    A,
    /// The far end, 10.77.0.2.
    B,
}

impl Side {
    /// Its address inside the namespaces.
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::A => Ipv4Addr::new(10, 77, 0, 1),
            Self::B => Ipv4Addr::new(10, 77, 0, 2),
        }
    }
}

/// A WAN that could not be made or changed.
#[derive(Debug, Error)]
pub enum WanError {
    /// The path cannot be.
    #[error(transparent)]
    Path(#[from] PathError),
    /// A namespace could not be made.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// A side could not be entered or looked at.
    #[error("side {0:?} of the WAN: {1}")]
    Side(Side, #[source] std::io::Error),
    /// A carrying thread could not be started.
    #[error("no thread to carry packets: {0}")]
    Thread(#[source] std::io::Error),
}

/// What the path did so far, both directions together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Packets delivered; a super-packet counts once.
    pub carried: u64,
    /// Bytes that have come out at the other end.
    pub bytes: u64,
    /// Segments lost at random.
    pub lost: u64,
    /// Segments dropped because the queue was full, and packets because the bound in flight was
    /// reached.
    pub overflowed: u64,
    /// Segments that a cut took.
    pub cut: u64,
}

/// Two namespaces and the path between them. Dropping it ends the processes inside and the
/// namespaces.
#[derive(Debug)]
pub struct Wan {
    near: Namespace,
    far: Namespace,
    shared: Arc<Shared>,
    carriers: Vec<JoinHandle<()>>,
}

impl Wan {
    /// Makes both namespaces and starts carrying. `seed` fixes the losses and the jitter drawn.
    pub fn new(path: Path, profile: Profile, seed: u64) -> Result<Self, WanError> {
        path.check()?;
        let mut wan = Self {
            near: Namespace::new(Side::A.address(), profile)?,
            far: Namespace::new(Side::B.address(), profile)?,
            shared: Arc::new(Shared {
                path: Mutex::new(path),
                generation: AtomicU64::new(0),
                born: Instant::now(),
                cut_until: AtomicU64::new(0),
                ended: AtomicBool::new(false),
                carried: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                lost: AtomicU64::new(0),
                overflowed: AtomicU64::new(0),
                cut: AtomicU64::new(0),
            }),
            carriers: Vec::new(),
        };
        let mut random = fastrand::Rng::with_seed(seed);
        for (name, from, to) in [("a-b", &wan.near, &wan.far), ("b-a", &wan.far, &wan.near)] {
            let (from, to) = (Arc::clone(&from.device), Arc::clone(&to.device));
            let link = Link::new(Arc::clone(&wan.shared), from, to, random.fork());
            let carrier = std::thread::Builder::new()
                .name(format!("wan {name}"))
                .spawn(move || link.carry())
                .map_err(WanError::Thread)?;
            wan.carriers.push(carrier);
        }
        Ok(wan)
    }

    /// A command that runs inside a side's namespace, keeps its process ID from start to end, and
    /// is killed when the thread that starts it ends.
    pub fn command(&self, side: Side, program: impl AsRef<OsStr>) -> Command {
        let mut net = std::ffi::OsString::from("--net=");
        net.push(self.namespace(side).path());
        let mut command = Command::new("nsenter");
        command
            .arg(net)
            .args(["--", "setpriv", "--pdeathsig", "KILL", "--"])
            .arg(program);
        command
    }

    /// Does `work` on a thread inside a side's namespace: sockets that it makes belong there, and
    /// keep doing so wherever they are used.
    pub fn inside<T: Send>(
        &self,
        side: Side,
        work: impl FnOnce() -> T + Send,
    ) -> Result<T, WanError> {
        let namespace = self.namespace(side);
        let ended = std::thread::scope(|scope| {
            let thread = scope.spawn(|| namespace.enter().map(|()| work()));
            thread.join()
        });
        match ended {
            Ok(entered) => entered.map_err(|error| WanError::Side(side, error)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Resets one TCP connection from side A to `port` of side B, chosen at random, as a middlebox
    /// would; gives whether there was one. `ss` (iproute2) does it.
    pub fn reset_one(&self, port: u16) -> Result<bool, WanError> {
        let to = format!("{}:{port}", Side::B.address());
        let ss = |words: &[&str]| {
            let output = self.command(Side::A, "ss").args(words).output();
            output.map_err(|error| WanError::Side(Side::A, error))
        };
        let listed = ss(&["-Htn", "state", "established", "dst", &to])?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let own: Vec<&str> = listed
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2))
            .collect();
        let Some(chosen) = fastrand::choice(&own) else {
            return Ok(false);
        };
        ss(&["-Ktn", "src", chosen, "dst", &to])?;
        Ok(true)
    }

    /// Changes the path under the packets that flow. The bound on bytes in flight stays.
    pub fn set_path(&self, path: Path) -> Result<(), WanError> {
        path.check()?;
        *self
            .shared
            .path
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = path;
        self.shared.generation.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Cuts the path in both directions from now on for `time`: what is under way is lost too.
    /// `Duration::ZERO` heals a cut.
    pub fn cut(&self, time: Duration) {
        let until = self.shared.born.elapsed() + time;
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.shared.cut_until.store(until, Relaxed);
    }

    fn namespace(&self, side: Side) -> &Namespace {
        match side {
            Side::A => &self.near,
            Side::B => &self.far,
        }
    }

    /// What the path did so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            carried: self.shared.carried.load(Relaxed),
            bytes: self.shared.bytes.load(Relaxed),
            lost: self.shared.lost.load(Relaxed),
            overflowed: self.shared.overflowed.load(Relaxed),
            cut: self.shared.cut.load(Relaxed),
        }
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        for carrier in self.carriers.drain(..) {
            // A carrier that panicked carries nothing any more either.
            let _ = carrier.join();
        }
        self.near.kill_inhabitants();
        self.far.kill_inhabitants();
    }
}
