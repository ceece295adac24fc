//! What a connection costs: new ones per second, the time that a round trip takes longer, and the
//! memory of idle ones.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    choice::Choice,
    error::BenchError,
    load,
    pair::{Backend, Pair, Protocol, System},
    place::Place,
    process::READY,
    report::About,
    row::{Metric, Series},
    tell,
};

/// What its page in docs/results says.
pub(crate) const ABOUT: About = About {
    name: "connections",
    title: "What a connection costs",
    method: "Over loopback, direct and through two proxies with mutual TLS 1.3 between them. \
             Connections: each sends a byte, waits for its echo, and is closed; one client, then \
             sixteen at once. Round trips: a byte and its echo on one open connection; `added` is \
             the same percentile minus the direct one of the same run. Both are taken in slices \
             of at most 250 ms, the systems in turns. Proxies resume TLS sessions as they do by \
             default, and all have carried connections before. Memory: growth of the \
             resident memory of both fresh proxies by 1,000 idle connections, each of which has \
             carried a byte there and back, divided by 1,000.",
    drawn: &[RATE, TRIP[0].2, MEMORY],
};

const RATE: Metric = Metric("new connections", "1/s");
const MEMORY: Metric = Metric("memory of an idle connection", "KiB");
/// Percentiles of the time of a whole short connection.
const OPEN: [(f64, Metric); 2] = [
    (0.5, Metric("connection p50", "us")),
    (0.99, Metric("connection p99", "us")),
];
/// Percentiles of a round trip, as it is and less the direct one.
const TRIP: [(f64, Metric, Metric); 2] = [
    (
        0.5,
        Metric("round trip p50", "us"),
        Metric("added round trip p50", "us"),
    ),
    (
        0.99,
        Metric("round trip p99", "us"),
        Metric("added round trip p99", "us"),
    ),
];

const SYSTEMS: [System; 5] = [
    System::Direct,
    System::Renkei,
    System::Envoy,
    System::Nginx,
    System::Haproxy,
];
const MEMORY_SYSTEMS: [System; 4] = [
    System::Renkei,
    System::Envoy,
    System::Nginx,
    System::Haproxy,
];
const CLIENTS: [usize; 2] = [1, 16];
/// A run goes through the systems so many times, each for a slice.
const SLICES: usize = 10;
/// A slice of opening connections, in time.
const SLICE: Duration = Duration::from_millis(250);
/// And in connections: each leaves a port that cannot be used for a while.
const SLICE_MOST: usize = 400;
/// Round trips of a slice.
const TRIPS: usize = 500;
const TRIP_CASE: &str = "open connection";
const IDLE: usize = 1000;
const IDLE_CASE: &str = "idle=1000";
/// Idle connections hold two descriptors here and two in each proxy.
const DESCRIPTORS: u64 = 16_384;

/// Takes the measurement.
pub(crate) fn measure(choice: &Choice) -> Result<Series, BenchError> {
    raise_descriptor_limit();
    let mut series = Series::new(ABOUT.name);
    let service = load::echo(Ipv4Addr::LOCALHOST).map_err(|error| BenchError::Load {
        what: "the echo service".to_owned(),
        error,
    })?;
    let backend = Backend {
        outside: service,
        inside: service,
        protocol: Protocol::Tcp,
    };
    speeds(&mut series, choice, backend)?;
    if choice.takes(IDLE_CASE) {
        for run in 1..=choice.runs {
            for system in choice.systems(&MEMORY_SYSTEMS) {
                memory(&mut series, &start(system, backend)?)?;
            }
            tell(&format!(
                "connections: run {run} of {}, memory",
                choice.runs
            ));
        }
    }
    Ok(series)
}

/// New connections and round trips through pairs that stay.
fn speeds(series: &mut Series, choice: &Choice, backend: Backend) -> Result<(), BenchError> {
    let opening_case = |clients: usize| format!("clients={clients}");
    let clients: Vec<usize> = CLIENTS
        .into_iter()
        .filter(|clients| choice.takes(&opening_case(*clients)))
        .collect();
    let trips = choice.takes(TRIP_CASE);
    if clients.is_empty() && !trips {
        return Ok(());
    }
    let pairs: Vec<Pair> = choice
        .systems(&SYSTEMS)
        .into_iter()
        .map(|system| start(system, backend))
        .collect::<Result<_, _>>()?;
    for run in 1..=choice.runs {
        for clients in clients.iter().copied() {
            opening(series, &opening_case(clients), &pairs, clients)?;
        }
        if trips {
            round_trips(series, &pairs)?;
        }
        tell(&format!(
            "connections: run {run} of {}, rates and round trips",
            choice.runs
        ));
    }
    Ok(())
}

/// Starts a pair and waits until a byte passes.
pub(crate) fn start(system: System, backend: Backend) -> Result<Pair, BenchError> {
    let pair = Pair::start(system, Place::Loopback, backend)?;
    let limit = Instant::now() + READY;
    while let Err(error) = load::open(pair.address) {
        if Instant::now() > limit {
            return Err(fault(&pair, error));
        }
        sleep(Duration::from_millis(100));
    }
    Ok(pair)
}

/// Short connections, in slices by turns.
fn opening(
    series: &mut Series,
    case: &str,
    pairs: &[Pair],
    clients: usize,
) -> Result<(), BenchError> {
    let mut all: Vec<(Duration, Vec<Duration>)> = vec![Default::default(); pairs.len()];
    for _ in 0..SLICES {
        for (pair, (spent, times)) in pairs.iter().zip(&mut all) {
            let (took, slice) = load::connections(pair.address, clients, SLICE, SLICE_MOST)
                .map_err(|error| fault(pair, error))?;
            *spent += took;
            times.extend(slice);
        }
    }
    for (pair, (spent, mut times)) in pairs.iter().zip(all) {
        let system = pair.system.name();
        let rate = times.len() as f64 / spent.as_secs_f64();
        series.push(case, system, RATE, rate);
        for (share, metric) in OPEN {
            series.push(case, system, metric, load::percentile(&mut times, share));
        }
    }
    Ok(())
}

/// Round trips on one open connection of each pair, in slices by turns.
fn round_trips(series: &mut Series, pairs: &[Pair]) -> Result<(), BenchError> {
    let mut all = Vec::new();
    for pair in pairs {
        let stream = load::open(pair.address).map_err(|error| fault(pair, error))?;
        all.push((pair, stream, Vec::new()));
    }
    for _ in 0..SLICES {
        for (pair, stream, times) in &mut all {
            let slice = load::round_trips(stream, TRIPS).map_err(|error| fault(pair, error))?;
            times.extend(slice);
        }
    }
    for (share, whole, added) in TRIP {
        let mut direct = None;
        for (pair, _, times) in &mut all {
            let (system, value) = (pair.system, load::percentile(times, share));
            series.push(TRIP_CASE, system.name(), whole, value);
            if system == System::Direct {
                direct = Some(value);
            } else if let Some(direct) = direct {
                series.push(TRIP_CASE, system.name(), added, value - direct);
            }
        }
    }
    Ok(())
}

fn memory(series: &mut Series, pair: &Pair) -> Result<(), BenchError> {
    let open = |count| idle(pair.address, count).map_err(|error| fault(pair, error));
    drop(open(20)?);
    let before = pair.resident_bytes()?;
    let connections = open(IDLE)?;
    sleep(Duration::from_secs(1));
    let after = pair.resident_bytes()?;
    let grown = after.saturating_sub(before) as f64;
    let each = grown / connections.len() as f64 / 1024.0;
    series.push(IDLE_CASE, pair.system.name(), MEMORY, each);
    Ok(())
}

fn idle(address: SocketAddr, count: usize) -> std::io::Result<Vec<TcpStream>> {
    (0..count).map(|_| load::open(address)).collect()
}

fn fault(pair: &Pair, error: std::io::Error) -> BenchError {
    BenchError::Load {
        what: pair.system.name().to_owned(),
        error,
    }
}

/// For this program and those that it starts; without it, opening says that files are too many.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(DESCRIPTORS);
    if limit.current.is_some_and(|current| current < DESCRIPTORS) {
        limit.current = Some(DESCRIPTORS.min(most));
        let _ = setrlimit(Resource::Nofile, limit);
    }
}
