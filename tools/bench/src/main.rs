//! `bench`: Renkei beside direct, Envoy, nginx and HAProxy, in the same runs on the same machine.
//!
//! Systems take turns within every run (A B A B), values are medians, and what the proxies cost is
//! counted from /proc over exactly the run. Load stays on loopback addresses and in namespaces of
//! this program's own. `scripts/bench` installs the peers, builds, and runs it.

mod chart;
mod choice;
mod connections;
mod envoy;
mod error;
mod flows;
mod haproxy;
mod http;
mod identity;
mod iperf;
mod kafka;
mod load;
mod loopback;
mod neighbour;
mod nginx;
mod pair;
mod place;
mod plan;
mod process;
mod quiet;
mod renkei;
mod report;
mod resume;
mod row;
mod wan;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};

use crate::{choice::Choice, error::BenchError, report::About, row::Series};

/// Measures Renkei beside direct, Envoy, nginx and HAProxy in interleaved runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What to measure
    #[arg(required = true)]
    benches: Vec<Bench>,
    #[command(flatten)]
    choice: Choice,
    /// Where pages, plots and rows are written [default: docs/results; nowhere with --case or
    /// --systems, because a page shows a whole bench]
    #[arg(long, value_name = "FOLDER")]
    results: Option<PathBuf>,
    /// What is printed: tables for people, or rows as JSON for programs
    #[arg(long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// The paper's three distances, on an emulated WAN (needs root)
    Table2,
    /// 23 ms with random loss; small flows beside a bulk flow (needs root)
    Wan,
    /// One stream over loopback: throughput and processor time
    Loopback,
    /// New connections, round trips, memory of idle connections
    Connections,
    /// Requests of HTTP, with a connection for each and over kept ones
    Http,
    /// A Kafka broker behind each system (needs root)
    Kafka,
    /// A transfer while connections are reset and the path is cut (needs root)
    Resume,
    /// Two quiet connections while 16 processes keep the machine busy
    Quiet,
    /// What a flow of other people loses to a trunk (needs root)
    Neighbour,
    /// All of them
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("bench: {error}"));
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn run(&self) -> Result<(), BenchError> {
        const ALL: [Bench; 9] = [
            Bench::Table2,
            Bench::Wan,
            Bench::Loopback,
            Bench::Connections,
            Bench::Http,
            Bench::Kafka,
            Bench::Resume,
            Bench::Quiet,
            Bench::Neighbour,
        ];
        let wanted =
            |bench: &Bench| self.benches.contains(bench) || self.benches.contains(&Bench::All);
        let mut rows = Vec::new();
        for bench in ALL.into_iter().filter(wanted) {
            let (about, series) = self.measure(bench)?;
            let measured = series.finish();
            if measured.is_empty() {
                continue;
            }
            if let Some(folder) = self.folder() {
                report::write(folder, about, &measured)?;
            }
            if self.output == Output::Text {
                print(&format!("{}\n{}", about.title, report::table(&measured)));
            }
            rows.extend(measured);
        }
        if rows.is_empty() {
            return Err(BenchError::NoCase);
        }
        if self.output == Output::Json {
            print(report::json(&rows).trim_end());
        }
        Ok(())
    }

    /// Where results go, if anywhere.
    fn folder(&self) -> Option<&Path> {
        let whole = self.choice.is_whole().then_some(Path::new("docs/results"));
        self.results.as_deref().or(whole)
    }

    fn measure(&self, bench: Bench) -> Result<(&'static About, Series), BenchError> {
        let choice = &self.choice;
        Ok(match bench {
            Bench::Wan => (&wan::LOSS, wan::loss(choice)?),
            Bench::Loopback => (&loopback::ABOUT, loopback::measure(choice)?),
            Bench::Connections => (&connections::ABOUT, connections::measure(choice)?),
            Bench::Http => (&http::ABOUT, http::measure(choice)?),
            Bench::Kafka => (&kafka::ABOUT, kafka::measure(choice)?),
            Bench::Resume => (&resume::ABOUT, resume::measure(choice)?),
            Bench::Quiet => (&quiet::ABOUT, quiet::measure(choice)?),
            Bench::Neighbour => (&neighbour::ABOUT, neighbour::measure(choice)?),
            Bench::Table2 | Bench::All => (&wan::TABLE2, wan::table2(choice)?),
        })
    }
}

/// A line of progress, or a fault.
#[expect(clippy::print_stderr, reason = "what a person sees of this program")]
fn tell(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "what this program is asked for")]
fn print(text: &str) {
    println!("{text}");
}
