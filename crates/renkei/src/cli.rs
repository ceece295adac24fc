//! The command line: its commands and options, and the help that explains them.

mod print;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use renkei_site::HostPort;

use crate::{
    arguments::{AdminArg, LogFormat, Output, SiteArgs, StateArg},
    federation::{Federation, Identity, Registry},
    node_args::{Agent, Node, NodeProxy},
};

pub(crate) use print::{Bundle, BundleShow, Render, RenderNftables, Svid, SvidShow};

/// Links the services of independent sites: every site keeps its own certificate authority, every
/// workload gets a SPIFFE identity, every connection uses mutual TLS, and policy must allow it.
/// Applications do not change.
///
/// A site writes one short file and runs `renkei up site.yaml`.
#[derive(Debug, Parser)]
#[command(name = "renkei", version, propagate_version = true, after_help = AFTER)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How results are printed: tables for people, or JSON for programs.
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

const AFTER: &str = "\
A first site:
  renkei check site.yaml        finds every fault of the file, with its place and a hint
  renkei up site.yaml           runs the site
  renkei status site.yaml       shows who reaches what, what was refused and why
  renkei explain A B            why A may or may not reach B

Exit status: 0 done; 1 it failed, or the answer is no; 2 the command line or the site file is wrong.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a site: its authority, its agent and its proxy in one process.
    Up(Up),
    /// Run the server of a site of several nodes: its authority, and the port that nodes come to.
    Server(Server),
    /// Run this machine as a node of a site; at the server, let nodes join and put them out.
    #[command(subcommand)]
    Node(Node),
    /// Run the agent of a node alone, without a proxy.
    #[command(subcommand)]
    Agent(Agent),
    /// Run the proxy of a node alone, with identities from the Workload API of another agent.
    Proxy(NodeProxy),
    /// Check a site file and print what it configures. Starts nothing.
    Check(Check),
    /// Apply the changed site file to the running site. A faulty file changes nothing.
    Apply(SiteArgs),
    /// Show the running site: identities, peers, services, flows, refusals.
    Status(SiteArgs),
    /// Say why A may or may not reach B.
    Explain(Explain),
    /// Print the lasting identity of this site and the line that its peers write; make it at the
    /// first call.
    Identity(Identity),
    /// Show the X.509-SVIDs of this workload.
    #[command(subcommand)]
    Svid(Svid),
    /// Show trust bundles of this site.
    #[command(subcommand)]
    Bundle(Bundle),
    /// Print configuration for other programs that follows from a site file.
    #[command(subcommand)]
    Render(Render),
    /// Start a federation, join one, admit members, and show the members.
    #[command(subcommand)]
    Federation(Federation),
    /// Run the registry of a federation: its log. No site has to trust it.
    Registry(Registry),
    /// Run the four-site demo: a Kafka pipeline over the mesh, and intruders who are refused.
    Demo(Demo),
    /// Print a completion script for a shell.
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Signals: SIGHUP applies the changed site file; SIGTERM or SIGINT drains and stops; a second one \
stops at once.

With --workload-api the site has no authority of its own: the identities of its workloads and \
services, and the bundles of its peers, come from that socket (for example a SPIRE agent's), \
whose entries must then match this process.")]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// Where /metrics, /livez and /readyz are served: a loopback address, or `none`. Overrides
    /// `admin` of the site file; without either it is 127.0.0.1:9901.
    #[arg(long, value_name = "IP:PORT|none")]
    pub(crate) admin: Option<AdminArg>,
    /// Take identities from another SPIFFE Workload API, such as unix:///run/spire/agent.sock.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) workload_api: Option<String>,
    /// Socket on which this site serves the SPIFFE Workload API. Default: workload.sock in
    /// $RUNTIME_DIRECTORY under systemd, else in STATE.public, next to the state folder.
    #[arg(long, value_name = "PATH")]
    pub(crate) workload_socket: Option<PathBuf>,
    /// How long open connections may continue after SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) drain: Duration,
    /// Form of the log lines on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Log filter, as in RUST_LOG.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The site file needs `server`, where nodes come to. Agents and proxies run on the nodes: make a \
token for each with `renkei node token`, and run `renkei node join` there.

Signals: SIGHUP applies the changed site file; SIGTERM or SIGINT stops.")]
pub(crate) struct Server {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// Where /metrics, /livez and /readyz are served: a loopback address, or `none`. Overrides
    /// `admin` of the site file; without either it is 127.0.0.1:9901.
    #[arg(long, value_name = "IP:PORT|none")]
    pub(crate) admin: Option<AdminArg>,
    /// Form of the log lines on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Log filter, as in RUST_LOG.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The site file.
    #[arg(
        value_name = "SITE.yaml",
        default_value = "site.yaml",
        conflicts_with = "schema"
    )]
    pub(crate) file: PathBuf,
    /// Print the JSON Schema of the site file, for editors, and check nothing.
    #[arg(long)]
    pub(crate) schema: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  renkei explain osaka.example/collector hokkaido.example/broker --site osaka.yaml

Either A or B must belong to the site. A name without a slash is one of its own. Exit status 1 \
when A may not reach B.")]
pub(crate) struct Explain {
    /// The caller, such as osaka.example/collector.
    pub(crate) caller: String,
    /// The service, such as hokkaido.example/broker.
    pub(crate) service: String,
    /// The site file.
    #[arg(long = "site", value_name = "SITE.yaml", default_value = "site.yaml")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) state: StateArg,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What it does: four `renkei up` processes (Hokkaido, Tokyo, Osaka, Kyushu) on loopback addresses, \
each with its own CA, and two nodes of Hokkaido, for its broker and its forwarder. SINETStream programs at Osaka and Kyushu write weather records to \
Hokkaido's broker, a forwarder moves them to Tokyo's, a reader checks each by number and SHA-256. \
Meanwhile intruders try. Exit status 0 only if every record arrived once and every intruder was \
refused for the right reason.

`scripts/demo` installs Apache Kafka and the Python packages, and sets RENKEI_PYTHON, RENKEI_JAVA \
and RENKEI_KAFKA.")]
pub(crate) struct Demo {
    /// How long the sources write, 5 to 86400.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    pub(crate) seconds: u64,
    /// Kafka broker to use instead of starting one; once for both sites, or twice: Hokkaido's and
    /// Tokyo's.
    #[arg(long, value_name = "HOST:PORT", num_args = 1, value_parser = broker)]
    pub(crate) broker: Vec<String>,
    /// Records per second of each source, at most.
    #[arg(long, default_value_t = 50)]
    pub(crate) rate: u32,
    /// Lifetime of the SVIDs: 5s to 5m.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = svid_life)]
    pub(crate) svid_life: Duration,
    /// Kill this site with SIGKILL during the run, and start it again. More than once: one site
    /// after the other.
    #[arg(
        long,
        value_name = "SITE",
        num_args = 1,
        value_parser = ["hokkaido", "tokyo", "osaka", "kyushu"]
    )]
    pub(crate) kill: Vec<String>,
    /// Keep site files, state and logs in this folder, instead of a temporary one.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keep: Option<PathBuf>,
    /// Python with sinetstream, sinetstream-kafka and vega_datasets.
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "RENKEI_PYTHON",
        default_value = "python3"
    )]
    pub(crate) python: PathBuf,
    /// Folder with the jars of Apache Kafka, `libs` in its distribution: two brokers are started
    /// from it when --broker is not given.
    #[arg(long, value_name = "FOLDER", env = "RENKEI_KAFKA")]
    pub(crate) kafka: Option<PathBuf>,
    /// Java 17 or later, for Kafka.
    #[arg(
        long,
        value_name = "PROGRAM",
        env = "RENKEI_JAVA",
        default_value = "java"
    )]
    pub(crate) java: PathBuf,
}

/// An address as the site file takes it.
fn broker(text: &str) -> Result<String, String> {
    match HostPort::parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// An intruder waits until an SVID has ended, so a long life is a long demo.
fn svid_life(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(life) if (5..=300).contains(&life.as_secs()) && life.subsec_nanos() == 0 => Ok(life),
        Ok(_) => Err("expected whole seconds from 5s to 5m".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
