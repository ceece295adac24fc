//! The command line of a node: its agent and proxy, together and alone, and what its server
//! does with it.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};
use renkei_agent::server_client::JoinToken;
use renkei_api::node::NodeToken;
use renkei_site::HostPort;
use renkei_spiffe::TrustDomain;

use crate::arguments::{AdminArg, LogFormat, SiteArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Make this machine a node of a site, and run its agent and its proxy.
    ///
    /// The node gets its identities, listeners, services and policies from the server of the site.
    /// It writes no file: after a restart it joins again, with another token.
    Join(NodeJoin),
    /// Print a token: one line with which one node may join once.
    Token(NodeTokenArgs),
    /// Refuse a node for good.
    ///
    /// The server answers it no more. The SVIDs that it has are good until they expire.
    Ban(NodeName),
    /// Forget a node, banned or not: it must join again, with another token.
    Remove(NodeName),
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  renkei node join server.hokkaido.example:8081 TOKEN

The token is the line that `renkei node token` has printed at the server. It is for one use. Other \
users of this machine can see the command line: give the token in RENKEI_NODE_TOKEN instead.

Signals: SIGTERM or SIGINT drains and stops; a second one stops at once.")]
pub(crate) struct NodeJoin {
    #[command(flatten)]
    pub(crate) join: Join,
    /// How long open connections may continue after SIGTERM.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) drain: Duration,
}

/// How a machine joins, and what it serves then.
#[derive(Debug, Clone, Args)]
pub(crate) struct Join {
    /// The address of the server's API.
    #[arg(value_name = "SERVER:PORT", value_parser = HostPort::parse)]
    pub(crate) server: HostPort,
    /// The line that `renkei node token` has printed.
    #[arg(
        value_name = "TOKEN",
        env = "RENKEI_NODE_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: NodeToken,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// What the process of a node serves, and how it logs.
#[derive(Debug, Clone, Args)]
pub(crate) struct Serve {
    /// Where /metrics, /livez and /readyz are served: a loopback address, or `none`.
    #[arg(long, value_name = "IP:PORT|none", default_value = "127.0.0.1:9901")]
    pub(crate) admin: AdminArg,
    /// Folder of the control socket, private to the user. Default: node in $RUNTIME_DIRECTORY under
    /// systemd, /run/renkei/node-TRUST-DOMAIN for root, else
    /// $XDG_RUNTIME_DIR/renkei/node-TRUST-DOMAIN.
    #[arg(long = "state", value_name = "FOLDER", env = "RENKEI_STATE")]
    pub(crate) folder: Option<PathBuf>,
    /// Socket on which the node serves the SPIFFE Workload API. Default: workload.sock in
    /// $RUNTIME_DIRECTORY under systemd, else in a folder next to that of the control socket.
    #[arg(long, value_name = "PATH")]
    pub(crate) workload_socket: Option<PathBuf>,
    /// Form of the log lines on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// Log filter, as in RUST_LOG.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    pub(crate) log: String,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  renkei node token site.yaml --name login1
  renkei node token site.yaml --spire        for `spire-agent run -joinToken`

Anyone who has the line can become that node: hand it over as you would a password.")]
pub(crate) struct NodeTokenArgs {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// The name of the node under `nodes` in the site file.
    #[arg(long, value_name = "NODE", required_unless_present = "spire")]
    pub(crate) name: Option<String>,
    /// A plain join token, for an agent of SPIRE. It gets the workloads without `on`.
    #[arg(long, conflicts_with = "name")]
    pub(crate) spire: bool,
    /// How long the token is good, up to 30 days.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) ttl: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct NodeName {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// The name of the node, as `renkei status` shows it.
    #[arg(long, value_name = "NODE")]
    pub(crate) name: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Agent {
    /// Join the site as `renkei node join` does, and serve the SPIFFE Workload API.
    ///
    /// Services and gateways that the site file puts on this node are not served: that needs a
    /// proxy. They are reported to the server.
    #[command(after_help = "\
Example:
  renkei agent join server.hokkaido.example:8081 TOKEN

The token is the line that `renkei node token` has printed at the server. It is for one use. Other \
users of this machine can see the command line: give the token in RENKEI_NODE_TOKEN instead.

Signals: SIGTERM or SIGINT stops.")]
    Join(Join),
    /// Join a SPIRE server, and serve the SPIFFE Workload API for its entries.
    ///
    /// The agent asks the server for entries and bundles every few seconds. It serves the entries
    /// whose selectors are of `unix`; `renkei status` lists the others.
    #[command(after_help = "\
Example, with the output of `spire-server token generate` and `spire-server bundle show`:
  renkei agent join-spire spire.example:8081 TOKEN --trust-domain spire.example \
--trust-bundle bundle.pem

A token is for one use. Other users of this machine can see the command line: give the token in \
RENKEI_JOIN_TOKEN instead. A proxy on this machine takes its identities from this agent: \
`renkei proxy site.yaml --node NAME --workload-api SOCKET`.

Signals: SIGTERM or SIGINT stops.")]
    JoinSpire(JoinSpire),
}

/// How an agent joins a SPIRE server.
#[derive(Debug, Clone, Args)]
pub(crate) struct JoinSpire {
    /// The address of the server's API.
    #[arg(value_name = "SERVER:PORT", value_parser = HostPort::parse)]
    pub(crate) server: HostPort,
    /// The join token.
    #[arg(
        value_name = "TOKEN",
        env = "RENKEI_JOIN_TOKEN",
        hide_env_values = true
    )]
    pub(crate) token: JoinToken,
    /// The trust domain of the server.
    #[arg(long, value_name = "TRUST-DOMAIN", value_parser = TrustDomain::parse)]
    pub(crate) trust_domain: TrustDomain,
    /// The bundle of the trust domain: PEM, or a SPIFFE bundle document.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_bundle: PathBuf,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example, next to an agent of SPIRE that has joined the site:
  renkei proxy site.yaml --node store --workload-api unix:///run/spire/agent.sock

It opens what the site file has for this node. The agent must give its process the SVID of each \
service, of each workload with `uses`, and of the node (/renkei/node/NAME) if that needs a link to a \
gateway.

Signals: SIGHUP applies the changed site file; SIGTERM or SIGINT drains and stops; a second one \
stops at once.")]
pub(crate) struct NodeProxy {
    #[command(flatten)]
    pub(crate) site: SiteArgs,
    /// The name of this node under `nodes` in the site file.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: String,
    /// The Workload API that identities and bundles come from.
    #[arg(long, value_name = "SOCKET", env = "SPIFFE_ENDPOINT_SOCKET")]
    pub(crate) workload_api: String,
    /// Where /metrics, /livez and /readyz are served: a loopback address, or `none`. Overrides
    /// `admin` of the site file; without either it is 127.0.0.1:9901.
    #[arg(long, value_name = "IP:PORT|none")]
    pub(crate) admin: Option<AdminArg>,
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
