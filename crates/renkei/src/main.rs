//! `renkei`: one binary for everything a site runs, and for everyday questions about it.
//!
//! This crate holds the command line, what people see, and the composition of the roles. What the
//! roles do is in their own crates; docs/architecture.md maps them.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod allocator;
mod apply;
mod arguments;
mod bundle;
mod bundle_files;
mod check;
mod cli;
mod demo;
mod explain;
mod failure;
mod federation;
mod identity;
mod links;
mod load;
mod node;
mod node_args;
mod nodes;
mod open_ports;
mod output;
mod peer_identity;
mod place;
mod process;
mod render;
mod running;
mod site_client;
mod status;
mod svid;
mod traffic;
mod up;
mod warnings;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::{CommandFactory, Parser};
use miette::{IntoDiagnostic, WrapErr};
use renkei_runtime::{exposure, telemetry};
use rustls::{CipherSuite, crypto::CryptoProvider};

use crate::{
    arguments::LogFormat,
    cli::{Bundle, Cli, Command, Render, Svid},
    node_args::{Agent, Node, Serve},
};

/// How long the last lines of the log may take when the process ends.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long what still runs may take then: a read of a file, say, from a mount that hangs.
const LAST_WORK: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    failure::render_for_people();
    // Most commands hold keys for a while.
    if let Err(error) = exposure::keep_memory_private() {
        output::note(&format!(
            "warning: a crash may write keys to a core file: {error}"
        ));
    }
    let code = match Cli::try_parse() {
        Ok(cli) => {
            let form = cli.output;
            run(cli).unwrap_or_else(|report| failure::tell(&report, form))
        }
        Err(error) => {
            let printed = error.print();
            let code = u8::try_from(error.exit_code()).unwrap_or(1);
            output::printed(printed);
            ExitCode::from(code)
        }
    };
    let code = output::failure().map_or(code, |failure| {
        output::note(&failure);
        ExitCode::FAILURE
    });
    telemetry::flush(LAST_LINES);
    code
}

fn run(cli: Cli) -> miette::Result<ExitCode> {
    let form = cli.output;
    match cli.command {
        Command::Check(args) => block_on(check::run(&args, form)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "renkei", &mut script);
            output::print(&String::from_utf8_lossy(&script));
            Ok(ExitCode::SUCCESS)
        }
        Command::Render(Render::Nftables(args)) => render::nftables::run(&args, form),
        Command::Up(args) => {
            start_log(args.log_format, &args.log)?;
            block_on(up::run(&args))
        }
        Command::Server(args) => {
            start_log(args.log_format, &args.log)?;
            block_on(up::run_server(&args))
        }
        Command::Node(Node::Join(args)) => {
            start_node_log(&args.join.serve)?;
            block_on(node::join(&args))
        }
        Command::Agent(Agent::Join(args)) => {
            start_node_log(&args.serve)?;
            block_on(node::join_agent(&args))
        }
        Command::Agent(Agent::JoinSpire(args)) => {
            start_node_log(&args.serve)?;
            block_on(node::join_spire(&args))
        }
        Command::Proxy(args) => {
            start_log(args.log_format, &args.log)?;
            block_on(up::run_proxy(&args))
        }
        Command::Node(Node::Token(args)) => block_on(nodes::token(&args, form)),
        Command::Node(Node::Ban(args)) => block_on(nodes::ban(&args, form)),
        Command::Node(Node::Remove(args)) => block_on(nodes::remove(&args, form)),
        Command::Federation(command) => block_on(federation::run(command, form)),
        Command::Registry(args) => {
            start_log(LogFormat::Text, &args.log)?;
            block_on(federation::run_registry(&args))
        }
        Command::Apply(args) => block_on(apply::run(&args, form)),
        Command::Status(args) => block_on(status::run(&args, form)),
        Command::Explain(args) => block_on(explain::run(&args, form)),
        Command::Identity(args) => federation::run_identity(&args, form),
        Command::Svid(Svid::Show(args)) => block_on(svid::show(&args, form)),
        Command::Bundle(Bundle::Show(args)) => block_on(bundle::show(&args, form)),
        Command::Demo(args) => block_on(demo::run(&args, form)),
    }
}

fn start_node_log(serve: &Serve) -> miette::Result<()> {
    start_log(serve.log_format, &serve.log)
}

fn start_log(format: LogFormat, filter: &str) -> miette::Result<()> {
    let format = match format {
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::init(format, Some(filter))
        .into_diagnostic()
        .wrap_err("--log")
}

fn block_on<T>(work: impl Future<Output = miette::Result<T>>) -> miette::Result<T> {
    let runtime = tokio::runtime::Runtime::new()
        .into_diagnostic()
        .wrap_err("the runtime does not start")?;
    let done = runtime.block_on(work);
    runtime.shutdown_timeout(LAST_WORK);
    done
}

/// The one provider of cryptography of this process: aws-lc, chosen here and nowhere else.
/// AES-128-GCM comes first (docs/decisions/0009-aes-128-first.md).
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| {
            let mut provider = rustls::crypto::aws_lc_rs::default_provider();
            let first = CipherSuite::TLS13_AES_128_GCM_SHA256;
            provider
                .cipher_suites
                .sort_by_key(|suite| suite.suite() != first);
            Arc::new(provider)
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_128_is_offered_first_and_nothing_is_missing() {
        let suites: Vec<CipherSuite> = provider()
            .cipher_suites
            .iter()
            .map(|suite| suite.suite())
            .collect();
        assert_eq!(
            suites[..3],
            [
                CipherSuite::TLS13_AES_128_GCM_SHA256,
                CipherSuite::TLS13_AES_256_GCM_SHA384,
                CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
            ]
        );
        let all = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
        assert_eq!(suites.len(), all.len());
    }
}
