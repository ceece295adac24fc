//! A broker of Apache Kafka for a site: one node, which is its own controller.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use miette::{IntoDiagnostic, WrapErr, miette};

use super::process::{Process, command};

/// Where Kafka and its Java are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kafka<'a> {
    pub(super) java: &'a Path,
    /// The folder with Kafka's jars.
    pub(super) jars: &'a Path,
}

impl Kafka<'_> {
    /// Whether Kafka runs with this Java; if not, its last line says why.
    pub(super) async fn check(self) -> Result<(), String> {
        let mut version = self.command();
        version.args(["kafka.Kafka", "--version"]);
        run(version).await
    }

    /// Starts the broker of `site`. Clients reach it at `listener`.
    pub(super) async fn start(
        self,
        site: &str,
        listener: SocketAddr,
        controller: SocketAddr,
        folder: &Path,
    ) -> miette::Result<Process> {
        let file = write_properties(site, listener, controller, folder)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot write the configuration of {site}'s broker"))?;
        let mut format = self.command();
        format
            .args(["kafka.tools.StorageTool", "format"])
            .args(["--cluster-id", &format!("renkei-demo-{site}"), "--config"])
            .arg(&file);
        run(format)
            .await
            .map_err(|said| miette!("cannot prepare the storage of {site}'s broker: {said}"))?;
        let mut broker = self.command();
        broker.arg("kafka.Kafka").arg(&file);
        let log = folder.join(format!("{site}-broker.log"));
        Process::start(&format!("{site}'s broker"), broker, &log)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot start {}", self.java.display()))
    }

    /// Java with settings for a short life in little memory.
    fn command(self) -> tokio::process::Command {
        let mut java = command(self.java);
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        if let Some(archive) = self.class_archive() {
            let mut option = std::ffi::OsString::from("-XX:SharedArchiveFile=");
            option.push(archive);
            java.arg(option);
        }
        java.arg("-cp").arg(self.jars.join("*"));
        java
    }

    /// What `scripts/prerequisites` leaves next to the jars: Java starts faster with it.
    fn class_archive(self) -> Option<PathBuf> {
        let archive = self.jars.parent()?.join("kafka.jsa");
        archive.is_file().then_some(archive)
    }
}

/// Runs a program to its end; a failure gives the last line that it wrote.
async fn run(mut program: tokio::process::Command) -> Result<(), String> {
    let output = program.output().await.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| output.status.to_string(), str::to_owned))
}

fn write_properties(
    site: &str,
    listener: SocketAddr,
    controller: SocketAddr,
    folder: &Path,
) -> std::io::Result<PathBuf> {
    let data = folder.join(format!("{site}-broker"));
    let file = folder.join(format!("{site}-broker.properties"));
    let text = format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         controller.quorum.voters=1@{controller}\n\
         listeners=PLAINTEXT://{listener},CONTROLLER://{controller}\n\
         controller.listener.names=CONTROLLER\n\
         log.dirs={data}\n\
         offsets.topic.replication.factor=1\n\
         offsets.topic.num.partitions=1\n\
         log.cleaner.enable=false\n",
        data = data.display()
    );
    std::fs::write(&file, text)?;
    Ok(file)
}
