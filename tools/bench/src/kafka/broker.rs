//! The broker: tansu, which keeps its records in memory.

use std::{net::SocketAddr, path::Path};

use renkei_wan::Side;
use tempfile::TempDir;

use crate::{error::BenchError, place::Place, process::Running};

/// A running broker; dropping it ends it and forgets its records.
#[derive(Debug)]
pub(super) struct Broker {
    running: Running,
    _folder: TempDir,
}

impl Broker {
    /// Starts it on side B. Clients learn `advertised`.
    pub(super) fn start(
        place: Place<'_>,
        port: u16,
        advertised: SocketAddr,
    ) -> Result<Self, BenchError> {
        let program = std::env::var_os("RENKEI_TANSU").ok_or_else(|| BenchError::Missing {
            program: "the broker tansu (RENKEI_TANSU)".to_owned(),
        })?;
        let folder = TempDir::with_prefix("renkei-bench-")
            .map_err(BenchError::file(&std::env::temp_dir()))?;
        let ip = match place {
            Place::Loopback => "127.0.0.1",
            Place::Wan(_) => "0.0.0.0",
        };
        let mut command = place.command(Side::B, Path::new(&program));
        command
            .args(["broker", "--storage-engine", "memory://tansu/"])
            .args(["--listener-url", &format!("tcp://{ip}:{port}")])
            .args(["--advertised-listener-url", &format!("tcp://{advertised}")])
            .env("RUST_LOG", "warn");
        let running = Running::start("tansu", folder.path(), command)?;
        Ok(Self {
            running,
            _folder: folder,
        })
    }

    /// Processor seconds that it used so far.
    pub(super) fn cpu_seconds(&self) -> Result<f64, BenchError> {
        self.running.cpu_seconds()
    }
}
