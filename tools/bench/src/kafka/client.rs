//! The clients, as a Python program of their own: what they did and what it cost the others.

use std::path::PathBuf;

use renkei_testkit::find_program;
use renkei_wan::Side;
use serde::Deserialize;
use tempfile::TempDir;

use super::broker::Broker;
use crate::{error::BenchError, pair::Pair, place::Place, process::output};

const PROGRAM: &str = include_str!("client.py");
const RECORD: f64 = 1024.0;

/// What a client does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    Produce,
    Consume,
    Sinetstream,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::Sinetstream => "sinetstream",
        }
    }
}

/// What one run gave.
#[derive(Debug, Clone, Copy)]
pub(super) struct Done {
    records: f64,
    seconds: f64,
    proxies: f64,
    broker: f64,
    client: f64,
}

impl Done {
    pub(super) fn records_per_second(self) -> f64 {
        self.records / self.seconds
    }

    pub(super) fn megabytes_per_second(self) -> f64 {
        self.records_per_second() * RECORD / 1e6
    }

    pub(super) fn proxy_seconds_per_gigabyte(self) -> f64 {
        self.proxies / (self.records * RECORD / 1e9)
    }

    pub(super) fn broker_cores(self) -> f64 {
        self.broker / self.seconds
    }

    pub(super) fn client_cores(self) -> f64 {
        self.client / self.seconds
    }
}

/// Runs clients on side A.
#[derive(Debug)]
pub(super) struct Client<'a> {
    place: Place<'a>,
    python: PathBuf,
    seconds: u32,
    folder: TempDir,
}

impl<'a> Client<'a> {
    pub(super) fn new(place: Place<'a>, seconds: u32) -> Result<Self, BenchError> {
        let python = find_program("RENKEI_PYTHON").map_err(BenchError::NotInstalled)?;
        let folder = TempDir::with_prefix("renkei-bench-")
            .map_err(BenchError::file(&std::env::temp_dir()))?;
        let program = folder.path().join("client.py");
        std::fs::write(&program, PROGRAM).map_err(BenchError::file(&program))?;
        Ok(Self {
            place,
            python,
            seconds,
            folder,
        })
    }

    /// One client to its end.
    pub(super) fn run(
        &self,
        action: Action,
        topic: &str,
        java: bool,
        pair: &Pair,
        broker: &Broker,
    ) -> Result<Done, BenchError> {
        #[derive(Deserialize)]
        struct Answer {
            records: f64,
            seconds: f64,
            cpu: f64,
        }
        let mut command = self.place.command(Side::A, &self.python);
        command
            .current_dir(self.folder.path())
            .args(["client.py", action.name(), &pair.address.to_string(), topic])
            .arg(self.seconds.to_string())
            .args(java.then_some("java"));
        let name = format!("{} through {}", action.name(), pair.system.name());
        let (proxies, own) = (pair.cpu_seconds()?, broker.cpu_seconds()?);
        let said = output(&name, &mut command)?;
        let answer: Answer = serde_json::from_str(&said).map_err(|error| BenchError::Answer {
            program: name,
            error,
        })?;
        Ok(Done {
            records: answer.records,
            seconds: answer.seconds,
            proxies: pair.cpu_seconds()? - proxies,
            broker: broker.cpu_seconds()? - own,
            client: answer.cpu,
        })
    }
}
