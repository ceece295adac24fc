//! `renkei-wan run`: a command on one side of an emulated WAN, and its peer on the other.

use std::{
    process::{ExitCode, ExitStatus},
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use renkei_wan::{Path, Profile, Side, Wan};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::sleep,
};

/// A WAN between two network namespaces of this machine: delay, rate, loss, jitter, cuts.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Runs COMMAND at the near side (10.77.0.1); the far side is 10.77.0.2. Needs root.
    #[command(
        after_help = "Example: renkei-wan run --rtt 23ms --loss 1e-4 --profile 2021 \
        --far 'iperf3 -s' -- iperf3 -c 10.77.0.2"
    )]
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// Round-trip time, half of it each way
    #[arg(long, value_parser = humantime::parse_duration, default_value = "23ms")]
    rtt: Duration,
    /// Up to this much more delay each way; never reorders
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    jitter: Duration,
    /// Megabits per second each way [default: no limit]
    #[arg(long)]
    rate: Option<u64>,
    /// Bytes that wait before the rate limit [default: one bandwidth-delay product]
    #[arg(long)]
    queue: Option<u64>,
    /// The share of segments that is lost, such as 1e-4
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// The mean number of segments lost in a row [default: independent losses]
    #[arg(long)]
    burst: Option<f64>,
    /// Cuts the path: START:LENGTH, such as 5s:10s; may be given several times
    #[arg(long, value_parser = parse_cut)]
    cut: Vec<(Duration, Duration)>,
    /// How TCP is set in both namespaces
    #[arg(long, value_enum, default_value = "2021")]
    profile: ProfileName,
    /// Fixes the losses and the jitter drawn
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A command for the far side, split at spaces; it starts first and is ended with COMMAND
    #[arg(long, value_name = "COMMAND")]
    far: Option<String>,
    /// The command for the near side
    #[arg(required = true, last = true)]
    command: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProfileName {
    /// Linux's defaults: at most 6 MiB to receive, 4 MiB to send
    #[value(name = "2021")]
    Year2021,
    /// Both at most 64 MiB
    Tuned,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Action::Run(run) = Arguments::parse().action;
    match run.run().await {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("renkei-wan: {error}"));
            ExitCode::FAILURE
        }
    }
}

impl Run {
    fn path(&self) -> Path {
        Path {
            rtt: self.rtt,
            jitter: self.jitter,
            rate: self.rate.map(|rate| rate.saturating_mul(1_000_000)),
            queue: self.queue,
            loss: self.loss,
            burst: self.burst,
            ..Path::new(self.rtt)
        }
    }

    async fn run(&self) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let profile = match self.profile {
            ProfileName::Year2021 => Profile::Year2021,
            ProfileName::Tuned => Profile::Tuned,
        };
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let wan = Wan::new(self.path(), profile, self.seed)?;
        let far: Vec<&str> = self.far.iter().flat_map(|far| far.split(' ')).collect();
        let _far = start(&wan, Side::B, &far)?;
        if !far.is_empty() {
            sleep(Duration::from_millis(300)).await;
        }
        let near: Vec<&str> = self.command.iter().map(String::as_str).collect();
        let mut near = start(&wan, Side::A, &near)?.ok_or("no command")?;
        let code = tokio::select! {
            status = near.wait() => code(status?),
            _ = terminate.recv() => ExitCode::from(143),
            _ = interrupt.recv() => ExitCode::from(130),
            () = cuts(&wan, &self.cut) => ExitCode::FAILURE,
        };
        let seen = wan.statistics();
        tell(&format!(
            "renkei-wan: {} packets, {} MB, {} segments lost, {} overflowed, {} cut",
            seen.carried,
            seen.bytes / 1_000_000,
            seen.lost,
            seen.overflowed,
            seen.cut
        ));
        Ok(code)
    }
}

fn start(wan: &Wan, side: Side, words: &[&str]) -> std::io::Result<Option<Child>> {
    let Some((program, words)) = words.split_first() else {
        return Ok(None);
    };
    let mut command = Command::from(wan.command(side, program));
    command.args(words).kill_on_drop(true);
    if side == Side::B {
        command.stdout(std::process::Stdio::null());
    }
    command.spawn().map(Some)
}

/// Makes the cuts when their time comes; never ends.
async fn cuts(wan: &Wan, cuts: &[(Duration, Duration)]) {
    let mut cuts = cuts.to_vec();
    cuts.sort();
    let mut now = Duration::ZERO;
    for (at, length) in cuts {
        sleep(at.saturating_sub(now)).await;
        now = now.max(at);
        wan.cut(length);
    }
    std::future::pending().await
}

fn parse_cut(text: &str) -> Result<(Duration, Duration), String> {
    let (at, length) = text
        .split_once(':')
        .ok_or("a cut is START:LENGTH, such as 5s:10s")?;
    let parse = |text| humantime::parse_duration(text).map_err(|error| error.to_string());
    Ok((parse(at)?, parse(length)?))
}

fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

#[expect(clippy::print_stderr, reason = "what a person sees of this program")]
fn tell(text: &str) {
    eprintln!("{text}");
}
