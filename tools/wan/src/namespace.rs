//! A network namespace without a name, with one TUN device and the sysctls of a profile.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsFd, AsRawFd},
        linux::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
};
use thiserror::Error;
use tun_rs::DeviceBuilder;

/// The MTU of the path.
const MTU: u16 = 1500;
/// Packets that a device keeps for a carrier that is late; the kernel's 500 would lose some.
const DEVICE_QUEUE: u32 = 10_000;
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// How TCP is set in both namespaces. The congestion control is CUBIC in each, and what TCP learnt
/// from one connection is not carried to the next (`tcp_no_metrics_save`), so that runs are
/// independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Linux's defaults, as the paper's machines had: at most 6 MiB to receive, 4 MiB to send.
    Year2021,
    /// Both at most 64 MiB.
    Tuned,
}

impl Profile {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Year2021 => "2021",
            Self::Tuned => "tuned",
        }
    }

    fn sysctls(self) -> [(&'static str, &'static str); 5] {
        let (receive, send) = match self {
            Self::Year2021 => ("4096 131072 6291456", "4096 16384 4194304"),
            Self::Tuned => ("4096 131072 67108864", "4096 16384 67108864"),
        };
        [
            ("net/ipv6/conf/all/disable_ipv6", "1"),
            ("net/ipv4/tcp_rmem", receive),
            ("net/ipv4/tcp_wmem", send),
            ("net/ipv4/tcp_congestion_control", "cubic"),
            ("net/ipv4/tcp_no_metrics_save", "1"),
        ]
    }
}

/// A namespace that could not be made.
#[derive(Debug, Error)]
pub enum NamespaceError {
    /// The process is not root.
    #[error(
        "making a network namespace needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN): run it as root, \
         for example through sudo"
    )]
    NotPermitted,
    /// The kernel would not.
    #[error("no network namespace: {0}")]
    Unshare(#[source] io::Error),
    /// A sysctl that could not be set.
    #[error("setting {0}: {1}")]
    Sysctl(String, #[source] io::Error),
    /// The loopback device that could not be put up.
    #[error("`ip link set lo up` (iproute2): {0}")]
    Loopback(io::Error),
    /// No TUN device.
    #[error("no TUN device (is /dev/net/tun there?): {0}")]
    Device(#[source] io::Error),
    /// The thread that makes it ended.
    #[error("the thread that makes the namespace ended")]
    Thread,
}

/// The namespace lives while this does, or while a process is in it.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
    pub(crate) device: Arc<File>,
}

impl Namespace {
    pub(crate) fn new(address: Ipv4Addr, profile: Profile) -> Result<Self, NamespaceError> {
        allow_cubic()?;
        // Only this thread enters the namespace, and it ends here.
        thread::spawn(move || make(address, profile))
            .join()
            .map_err(|_| NamespaceError::Thread)?
    }

    /// Where another process can open it while this process lives.
    pub(crate) fn path(&self) -> PathBuf {
        let (process, file) = (std::process::id(), self.file.as_raw_fd());
        format!("/proc/{process}/fd/{file}").into()
    }

    /// Moves the thread that calls it into the namespace.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.file, CloneFlags::CLONE_NEWNET)?)
    }

    /// Kills every process that is still in it.
    pub(crate) fn kill_inhabitants(&self) {
        let Ok(own) = self.file.metadata() else {
            return;
        };
        let Ok(entries) = std::fs::read_dir("/proc") else {
            return;
        };
        for entry in entries.flatten() {
            let inside = std::fs::metadata(entry.path().join("ns/net")).is_ok_and(|other| {
                (other.st_dev(), other.st_ino()) == (own.st_dev(), own.st_ino())
            });
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(process) = id.and_then(rustix::process::Pid::from_raw)
                && inside
            {
                // It may have ended just now.
                let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            }
        }
    }
}

fn make(address: Ipv4Addr, profile: Profile) -> Result<Namespace, NamespaceError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
        Errno::EPERM => NamespaceError::NotPermitted,
        other => NamespaceError::Unshare(other.into()),
    })?;
    let file = File::open("/proc/thread-self/ns/net").map_err(NamespaceError::Unshare)?;
    let loopback = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .output()
        .map_err(NamespaceError::Loopback)?;
    if !loopback.status.success() {
        let said = String::from_utf8_lossy(&loopback.stderr).into_owned();
        return Err(NamespaceError::Loopback(io::Error::other(said)));
    }
    for (name, value) in profile.sysctls() {
        // A kernel without IPv6 has nothing to turn off there.
        let path = Path::new("/proc/sys").join(name);
        if path.exists() {
            std::fs::write(&path, value)
                .map_err(|error| NamespaceError::Sysctl(name.to_owned(), error))?;
        }
    }
    let device = DeviceBuilder::new()
        .name("wan0")
        .mtu(MTU)
        .ipv4(address, 24, None)
        .with(|builder| {
            builder.offload(true).tx_queue_len(DEVICE_QUEUE);
        })
        .build_sync()
        .map_err(NamespaceError::Device)?;
    device
        .set_nonblocking(true)
        .map_err(NamespaceError::Device)?;
    // The device lives as long as any handle to it.
    let device = device
        .as_fd()
        .try_clone_to_owned()
        .map_err(NamespaceError::Device)?;
    Ok(Namespace {
        file,
        device: Arc::new(device.into()),
    })
}

/// A namespace may only choose what the first namespace allows.
fn allow_cubic() -> Result<(), NamespaceError> {
    let fault = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => NamespaceError::NotPermitted,
        _ => NamespaceError::Sysctl("net/ipv4/tcp_allowed_congestion_control".to_owned(), error),
    };
    let allowed = std::fs::read_to_string(ALLOWED).map_err(fault)?;
    if allowed.split_whitespace().any(|name| name == "cubic") {
        return Ok(());
    }
    std::fs::write(ALLOWED, format!("{} cubic", allowed.trim())).map_err(fault)
}
