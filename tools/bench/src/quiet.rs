//! How long a quiet connection transfers nothing while the machine is busy: two connections of a pair
//! send a byte now and then, beside more busy processes than there are cores.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use renkei_wan::Side;
use tempfile::TempDir;

use crate::{
    choice::Choice,
    connections::start,
    error::BenchError,
    load,
    pair::{Backend, Pair, Protocol, System},
    place::Place,
    process::Running,
    report::About,
    row::{Metric, Series},
    tell,
};

/// What its page in docs/results says.
pub(crate) const ABOUT: About = About {
    name: "quiet",
    title: "Two quiet connections on a busy machine",
    method: "Over loopback, direct and through two Renkei sites, at the same time: two connections \
             of each send a byte, wait for its echo, and rest for 10 ms, while 16 processes keep \
             every core busy. A gap is the time from a byte to its echo.",
    drawn: &[WORST],
};

const WORST: Metric = Metric("worst gap", "ms");
const OFTEN: Metric = Metric("gap p99", "ms");
const CASE: &str = "busy=16";
const SYSTEMS: [System; 2] = [System::Direct, System::Renkei];
/// Processes that only use their core.
const BUSY: usize = 16;
/// Connections of each system.
const STREAMS: usize = 2;
/// Between an echo and the next byte.
const REST: Duration = Duration::from_millis(10);
/// A byte that has not come back after this long never will.
const LOST: Duration = Duration::from_secs(120);

/// Takes the measurement.
pub(crate) fn measure(choice: &Choice) -> Result<Series, BenchError> {
    let mut series = Series::new(ABOUT.name);
    if !choice.takes(CASE) {
        return Ok(series);
    }
    let service = load::echo(Ipv4Addr::LOCALHOST).map_err(|error| BenchError::Load {
        what: "the echo service".to_owned(),
        error,
    })?;
    let backend = Backend {
        outside: service,
        inside: service,
        protocol: Protocol::Tcp,
    };
    let systems = choice.systems(&SYSTEMS);
    let pairs: Vec<Pair> = systems
        .into_iter()
        .map(|system| start(system, backend))
        .collect::<Result<_, _>>()?;
    let folder =
        TempDir::with_prefix("renkei-bench-").map_err(BenchError::file(&std::env::temp_dir()))?;
    let _busy: Vec<Running> = (0..BUSY)
        .map(|number| busy(number, folder.path()))
        .collect::<Result<_, _>>()?;
    let length = Duration::from_secs(choice.seconds.into());
    for run in 1..=choice.runs {
        for (system, mut gaps) in all_gaps(&pairs, length)? {
            let worst = load::percentile(&mut gaps, 1.0) / 1000.0;
            let often = load::percentile(&mut gaps, 0.99) / 1000.0;
            series.push(CASE, system.name(), WORST, worst);
            series.push(CASE, system.name(), OFTEN, often);
            tell(&format!(
                "quiet: run {run} of {}, {}: worst of {} gaps {worst:.1} ms",
                choice.runs,
                system.name(),
                gaps.len()
            ));
        }
    }
    Ok(series)
}

/// A process that does nothing but use a core; it ends with this program.
fn busy(number: usize, folder: &Path) -> Result<Running, BenchError> {
    let mut command = Place::Loopback.command(Side::A, Path::new("/bin/sh"));
    command.args(["-c", "while :; do :; done"]);
    Running::start(&format!("busy-{number}"), folder, command)
}

/// The gaps of every system, over the same time.
fn all_gaps(pairs: &[Pair], length: Duration) -> Result<Vec<(System, Vec<Duration>)>, BenchError> {
    scope(|scope| {
        let streams = pairs.iter().flat_map(|pair| vec![pair; STREAMS]);
        let running: Vec<_> = streams
            .map(|pair| (pair, scope.spawn(|| gaps(pair.address, length))))
            .collect();
        let mut all: Vec<(System, Vec<Duration>)> = Vec::new();
        for (pair, stream) in running {
            let ended = stream
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("a load panicked")));
            let gaps = ended.map_err(|error| BenchError::Load {
                what: pair.system.name().to_owned(),
                error,
            })?;
            match all.iter_mut().find(|(system, _)| *system == pair.system) {
                Some((_, before)) => before.extend(gaps),
                None => all.push((pair.system, gaps)),
            }
        }
        Ok(all)
    })
}

/// How long each byte took to come back, on one connection.
fn gaps(address: SocketAddr, length: Duration) -> io::Result<Vec<Duration>> {
    let mut stream = load::open(address)?;
    stream.set_read_timeout(Some(LOST))?;
    let (start, mut gaps) = (Instant::now(), Vec::new());
    while start.elapsed() < length {
        gaps.extend(load::round_trips(&mut stream, 1)?);
        sleep(REST);
    }
    Ok(gaps)
}
