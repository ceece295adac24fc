//! The systems that are compared: nothing in between, or two proxies with mutual TLS 1.3 between
//! them.

use std::net::{Ipv4Addr, SocketAddr};

use renkei_wan::Side;
use tempfile::TempDir;

pub(crate) use crate::plan::Protocol;
use crate::{
    envoy, error::BenchError, haproxy, identity::Identity, nginx, place::Place, plan::Plan,
    process::Running, renkei,
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
        Self::start_with(system, place, backend, "")
    }

    /// The same, where the site files of Renkei say `gateway` of their gateways besides.
    pub(crate) fn start_with(
        system: System,
        place: Place<'_>,
        backend: Backend,
        gateway: &str,
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
            gateway,
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
