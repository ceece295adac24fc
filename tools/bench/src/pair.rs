//! The systems that are compared: nothing in between, or two proxies with mutual TLS 1.3 between
//! them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use renkei_wan::Side;
use tempfile::TempDir;

use crate::{
    envoy, error::BenchError, haproxy, identity::Identity, nginx, place::Place, process::Running,
    renkei,
};

/// What lies between the client and the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum System {
    Direct,
    Renkei,
    Envoy,
    Nginx,
    Haproxy,
}

impl System {
    /// Its name in rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Renkei => "renkei",
            Self::Envoy => "envoy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }
}

/// Where the backend listens, as a client of the other side and as its own side sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backend {
    pub(crate) outside: SocketAddr,
    pub(crate) inside: SocketAddr,
    pub(crate) protocol: Protocol,
}

/// What a proxy that knows protocols is told about the backend's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Kafka,
}

impl Backend {
    /// A backend on all addresses of side B.
    pub(crate) fn on_side_b(port: u16) -> Self {
        Self {
            outside: (Side::B.address(), port).into(),
            inside: (Ipv4Addr::LOCALHOST, port).into(),
            protocol: Protocol::Tcp,
        }
    }
}

/// What a pair is made of.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) folder: PathBuf,
    /// Where the near proxy listens for the client.
    pub(crate) listen: SocketAddr,
    /// Where the far proxy listens for the near one.
    pub(crate) between: SocketAddr,
    pub(crate) backend: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) near: Identity,
    pub(crate) far: Identity,
}

/// A system that runs.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) system: System,
    /// Where its client connects.
    pub(crate) address: SocketAddr,
    /// Where the connections between the two sides lead.
    pub(crate) between: SocketAddr,
    proxies: Vec<Running>,
    _folder: Option<TempDir>,
}

impl Pair {
    /// Starts the proxies, if there are any, and waits until they say that they are ready.
    pub(crate) fn start(
        system: System,
        place: Place<'_>,
        backend: Backend,
    ) -> Result<Self, BenchError> {
        if system == System::Direct {
            return Ok(Self {
                system,
                address: backend.outside,
                between: backend.outside,
                proxies: Vec::new(),
                _folder: None,
            });
        }
        let folder = TempDir::with_prefix("renkei-bench-")
            .map_err(BenchError::file(&std::env::temp_dir()))?;
        let plan = Plan {
            place,
            folder: folder.path().to_owned(),
            listen: place.inside(),
            between: place.reachable(Side::B),
            backend: backend.inside,
            protocol: backend.protocol,
            near: Identity::write(folder.path(), Side::A)?,
            far: Identity::write(folder.path(), Side::B)?,
        };
        let proxies = match system {
            System::Direct => Vec::new(),
            System::Renkei => renkei::start(&plan)?,
            System::Envoy => envoy::start(&plan)?,
            System::Nginx => nginx::start(&plan)?,
            System::Haproxy => haproxy::start(&plan)?,
        };
        Ok(Self {
            system,
            address: plan.listen,
            between: plan.between,
            proxies,
            _folder: Some(folder),
        })
    }

    /// Whether there are proxies whose cost can be counted.
    pub(crate) fn has_proxies(&self) -> bool {
        !self.proxies.is_empty()
    }

    /// Processor seconds of both proxies so far.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, BenchError> {
        self.proxies.iter().map(Running::cpu_seconds).sum()
    }

    /// Bytes of memory of both proxies now.
    pub(crate) fn resident_bytes(&self) -> Result<u64, BenchError> {
        self.proxies.iter().map(Running::resident_bytes).sum()
    }
}

impl Plan<'_> {
    /// Writes a file of the pair and gives its path.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, BenchError> {
        let path = self.folder.join(name);
        std::fs::write(&path, text).map_err(BenchError::file(&path))?;
        Ok(path)
    }
}
