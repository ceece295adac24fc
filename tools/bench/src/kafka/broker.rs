//! The broker: one node of Apache Kafka, with the memory that its own scripts give it.

use std::{net::SocketAddr, path::Path, process::Command};

use renkei_testkit::find_program;
use renkei_wan::Side;
use tempfile::TempDir;

use crate::{
    error::BenchError,
    place::Place,
    process::{Running, output},
};

/// A running broker; dropping it ends it and forgets its records.
#[derive(Debug)]
pub(super) struct Broker {
    running: Running,
    _folder: TempDir,
}

impl Broker {
    /// Starts it on side B and waits until it serves. Clients learn `advertised`.
    pub(super) fn start(
        place: Place<'_>,
        port: u16,
        advertised: SocketAddr,
    ) -> Result<Self, BenchError> {
        let folder = TempDir::with_prefix("renkei-bench-")
            .map_err(BenchError::file(&std::env::temp_dir()))?;
        let file = folder.path().join("server.properties");
        let text = properties(place, port, advertised, folder.path());
        std::fs::write(&file, text).map_err(BenchError::file(&file))?;
        let mut format = java(place)?;
        format
            .args(["kafka.tools.StorageTool", "format"])
            .args(["--cluster-id", "renkei-bench", "--config"])
            .arg(&file);
        output("Kafka's storage tool", &mut format)?;
        let mut command = java(place)?;
        command.arg("kafka.Kafka").arg(&file);
        let mut running = Running::start("kafka", folder.path(), command)?;
        let log = folder.path().join("kafka.log");
        running.wait_for("the broker serves", || {
            let log = std::fs::read_to_string(&log).ok()?;
            log.contains("Kafka Server started").then_some(())
        })?;
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

fn properties(place: Place<'_>, port: u16, advertised: SocketAddr, folder: &Path) -> String {
    let ip = match place {
        Place::Loopback => "127.0.0.1",
        Place::Wan(_) => "0.0.0.0",
    };
    let controller = place.inside();
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{ip}:{port},CONTROLLER://{controller}\n\
         advertised.listeners=PLAINTEXT://{advertised}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={data}\n\
         file.delete.delay.ms=1000\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n",
        data = folder.join("data").display()
    )
}

fn java(place: Place<'_>) -> Result<Command, BenchError> {
    let program = find_program("RENKEI_JAVA").map_err(BenchError::NotInstalled)?;
    let jars = find_program("RENKEI_KAFKA").map_err(BenchError::NotInstalled)?;
    let mut command = place.command(Side::B, &program);
    command
        .args(["-Xms1g", "-Xmx1g", "-XX:+UseG1GC"])
        .args([
            "-XX:MaxGCPauseMillis=20",
            "-XX:InitiatingHeapOccupancyPercent=35",
        ])
        .arg("-cp")
        .arg(jars.join("*"));
    Ok(command)
}
