//! The Kafka pipeline: SINETStream programs that know nothing of the mesh.

use std::{io, path::Path, time::Duration};

use serde_json::Value;

use super::{
    broker::Kafka,
    process::{Program, command},
};
use crate::cli;

const COLLECTOR: &str = include_str!("programs/collector.py");
const FORWARDER: &str = include_str!("programs/forwarder.py");
const READER: &str = include_str!("programs/reader.py");
const TOPIC: &str = include_str!("programs/topic.py");

/// The addresses that the pipeline's programs are given.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// Hokkaido's broker, as its node sees it.
    pub(super) hokkaido_broker: String,
    /// Tokyo's broker, as its own site sees it.
    pub(super) tokyo_broker: String,
    /// Local listeners of the mesh: what each program takes for the remote broker.
    pub(super) osaka_listener: String,
    pub(super) kyushu_listener: String,
    pub(super) forwarder_source: String,
    pub(super) forwarder_target: String,
}

#[derive(Debug)]
pub(super) struct Pipeline {
    osaka: Program,
    kyushu: Program,
    forwarder: Program,
    reader: Program,
}

/// How far the pipeline has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) osaka: u64,
    pub(super) kyushu: u64,
    pub(super) forwarded: u64,
    pub(super) delivered: u64,
    pub(super) repeated: u64,
    pub(super) corrupted: u64,
    pub(super) retried: u64,
}

impl Progress {
    pub(super) fn sent(&self) -> u64 {
        self.osaka + self.kyushu
    }
}

/// Finds out whether the programs are there before anything is started.
pub(super) async fn check_programs(args: &cli::Demo) -> miette::Result<()> {
    const HELP: &str =
        "`scripts/demo` installs Apache Kafka and the Python packages and names them";
    let works = |mut program: tokio::process::Command| async move {
        matches!(program.output().await, Ok(output) if output.status.success())
    };
    let mut python = command(&args.python);
    python.args(["-c", "import sinetstream, kafka, vega_datasets"]);
    if !works(python).await {
        let name = args.python.display();
        return Err(miette::miette!(
            help = HELP,
            "{name} is not a Python with sinetstream, sinetstream-kafka and vega_datasets"
        ));
    }
    if !args.broker.is_empty() {
        return Ok(());
    }
    let help = format!("{HELP}; or use a broker of your own with --broker HOST:PORT");
    let Some(jars) = &args.kafka else {
        return Err(miette::miette!(
            help = help,
            "there is no broker: --kafka names no folder with the jars of Apache Kafka"
        ));
    };
    let kafka = Kafka {
        java: &args.java,
        jars,
    };
    kafka.check().await.map_err(|said| {
        miette::miette!(
            help = help,
            "{} does not run Apache Kafka from {}: {said}",
            args.java.display(),
            jars.display()
        )
    })
}

impl Pipeline {
    /// Creates the topics, writes each program's SINETStream configuration, and starts all four.
    pub(super) async fn start(
        args: &cli::Demo,
        route: &Route,
        topic: &str,
        folder: &Path,
    ) -> miette::Result<Self> {
        for (broker, service) in [
            (&route.hokkaido_broker, "weather"),
            (&route.tokyo_broker, "mdx"),
        ] {
            create_topic(&args.python, broker, &format!("{topic}-{service}"), folder).await?;
        }
        let start = |name: &str, source: &str, configuration: String, arguments: &[&str]| {
            start_program(args, folder, name, source, &configuration, arguments)
                .map_err(|error| miette::miette!("{name} does not start: {error}"))
        };
        let rate = args.rate.to_string();
        let weather = |broker: &str| writer("weather", broker, topic);
        Ok(Self {
            reader: start(
                "tokyo-reader",
                READER,
                reader("mdx", &route.tokyo_broker, topic),
                &[],
            )?,
            forwarder: start(
                "hokkaido-forwarder",
                FORWARDER,
                reader("weather", &route.forwarder_source, topic)
                    + &writer("mdx", &route.forwarder_target, topic),
                &[],
            )?,
            osaka: start(
                "osaka-collector",
                COLLECTOR,
                weather(&route.osaka_listener),
                &["osaka", "seattle_temps", &rate],
            )?,
            kyushu: start(
                "kyushu-collector",
                COLLECTOR,
                weather(&route.kyushu_listener),
                &["kyushu", "sf_temps", &rate],
            )?,
        })
    }

    /// Counts as the programs last printed them.
    pub(super) fn progress(&self) -> Progress {
        let number = |program: &Program, key: &str| {
            program
                .latest()
                .get(key)
                .and_then(Value::as_u64)
                .unwrap_or(0)
        };
        let delivered = match self.reader.latest().get("delivered") {
            Some(Value::Object(sites)) => sites.values().filter_map(Value::as_u64).sum(),
            _ => 0,
        };
        Progress {
            osaka: number(&self.osaka, "sent"),
            kyushu: number(&self.kyushu, "sent"),
            forwarded: number(&self.forwarder, "moved"),
            delivered,
            repeated: number(&self.reader, "repeated"),
            corrupted: number(&self.reader, "corrupted"),
            retried: number(&self.osaka, "retried")
                + number(&self.kyushu, "retried")
                + number(&self.forwarder, "retried"),
        }
    }

    /// A program that has ended although it was not stopped.
    pub(super) fn ended_early(&mut self) -> Option<String> {
        [
            &mut self.reader,
            &mut self.forwarder,
            &mut self.osaka,
            &mut self.kyushu,
        ]
        .into_iter()
        .find_map(Program::ended)
    }

    /// Lets the sources end after the record under way.
    pub(super) async fn stop_sources(&mut self) {
        self.osaka.finish();
        self.kyushu.finish();
        let limit = Duration::from_secs(20);
        tokio::join!(self.osaka.stop(limit), self.kyushu.stop(limit));
    }

    /// Ends the programs that still run.
    pub(super) async fn stop(&mut self) {
        let limit = Duration::from_secs(3);
        tokio::join!(
            self.osaka.stop(limit),
            self.kyushu.stop(limit),
            self.forwarder.stop(limit),
            self.reader.stop(limit)
        );
    }
}

fn start_program(
    args: &cli::Demo,
    folder: &Path,
    name: &str,
    source: &str,
    configuration: &str,
    arguments: &[&str],
) -> io::Result<Program> {
    let home = folder.join(name);
    std::fs::create_dir_all(&home)?;
    std::fs::write(home.join("program.py"), source)?;
    std::fs::write(home.join(".sinetstream_config.yml"), configuration)?;
    let mut program = command(&args.python);
    program.arg("program.py").args(arguments).current_dir(&home);
    Program::start(name, program, &folder.join(format!("{name}.log")))
}

async fn create_topic(
    python: &Path,
    broker: &str,
    topic: &str,
    folder: &Path,
) -> miette::Result<()> {
    let file = folder.join("topic.py");
    std::fs::write(&file, TOPIC)
        .map_err(|error| miette::miette!("cannot write {}: {error}", file.display()))?;
    let made = command(python)
        .arg(&file)
        .args([broker, topic])
        .output()
        .await;
    match made {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or("it said nothing").to_owned();
            Err(miette::miette!(
                help = "is a Kafka broker running there?",
                "the topic {topic} cannot be created at {broker}: {last}"
            ))
        }
        Err(error) => Err(miette::miette!(
            "{} does not run: {error}",
            python.display()
        )),
    }
}

/// At least once, so that the writer waits for the broker's word before the next record.
fn writer(service: &str, broker: &str, topic: &str) -> String {
    format!(
        "{service}:\n  type: kafka\n  brokers: {broker}\n  topic: {topic}-{service}\n  \
         consistency: AT_LEAST_ONCE\n  value_type: text\n"
    )
}

/// Without a consumer group: the whole topic from its start.
fn reader(service: &str, broker: &str, topic: &str) -> String {
    let base = writer(service, broker, topic);
    format!("{base}  group_id: null\n  auto_offset_reset: earliest\n  receive_timeout_ms: 500\n")
}
