//! `bench`: Renkei beside direct, Envoy, nginx and HAProxy, in the same runs on the same machine.
//!
//! Systems take turns within every run (A B A B), values are medians, and what the proxies cost is
//! counted from /proc over exactly the run. Load stays on loopback addresses and in namespaces of
//! this program's own. `scripts/bench` installs the peers, builds, and runs it.

mod chart;
mod connections;
mod envoy;
mod error;
mod flows;
mod haproxy;
mod identity;
mod iperf;
mod load;
mod loopback;
mod nginx;
mod pair;
mod place;
mod process;
mod renkei;
mod report;
mod resume;
mod row;
mod wan;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};

use crate::{error::BenchError, report::About, row::Series};

/// Measures Renkei beside direct, Envoy, nginx and HAProxy in interleaved runs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// What to measure
    #[arg(required = true)]
    benches: Vec<Bench>,
    /// Runs of each system and case; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    runs: u32,
    /// Seconds of each stream
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Where pages, plots and rows are written
    #[arg(long, value_name = "FOLDER", default_value = "docs/results")]
    results: PathBuf,
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
    /// A transfer while connections are reset and the path is cut (needs root)
    Resume,
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
        const ALL: [Bench; 5] = [
            Bench::Table2,
            Bench::Wan,
            Bench::Loopback,
            Bench::Connections,
            Bench::Resume,
        ];
        let wanted =
            |bench: &Bench| self.benches.contains(bench) || self.benches.contains(&Bench::All);
        let mut rows = Vec::new();
        for bench in ALL.into_iter().filter(wanted) {
            let (about, series) = self.measure(bench)?;
            let measured = series.finish();
            report::write(&self.results, about, &measured)?;
            if self.output == Output::Text {
                print(&format!("{}\n{}", about.title, report::table(&measured)));
            }
            rows.extend(measured);
        }
        if self.output == Output::Json {
            print(report::json(&rows).trim_end());
        }
        Ok(())
    }

    fn measure(&self, bench: Bench) -> Result<(&'static About, Series), BenchError> {
        let (runs, seconds) = (self.runs, self.seconds);
        Ok(match bench {
            Bench::Wan => (&wan::LOSS, wan::loss(runs, seconds)?),
            Bench::Loopback => (&loopback::ABOUT, loopback::measure(runs, seconds)?),
            Bench::Connections => (&connections::ABOUT, connections::measure(runs)?),
            Bench::Resume => (&resume::ABOUT, resume::measure(runs)?),
            Bench::Table2 | Bench::All => (&wan::TABLE2, wan::table2(runs, seconds)?),
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
