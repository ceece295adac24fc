//! What a connection costs: new ones per second, the time that a round trip takes longer, and the
//! memory of idle ones.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    error::BenchError,
    load,
    pair::{Backend, Pair, System},
    place::Place,
    process::READY,
    report::About,
    row::{Metric, Series},
    tell,
};

/// Its page.
pub(crate) const ABOUT: About = About {
    name: "connections",
    title: "What a connection costs",
    method: "Over loopback, direct and through two proxies with mutual TLS 1.3 between them. \
             Connections: each sends a byte, waits for its echo, and is closed; one client, then \
             sixteen at once. Round trips: a byte and its echo on one open connection; `added` is \
             the same percentile minus the direct one of the same run. Memory: growth of the \
             resident memory of both fresh proxies by 1,000 idle connections, each of which has \
             carried a byte there and back, divided by 1,000.",
    drawn: RATE.0,
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
/// Connections of a run, altogether.
const OPENED: usize = 1600;
const CLIENTS: [usize; 2] = [1, 16];
const TRIPS: usize = 5000;
const IDLE: usize = 1000;
/// Idle connections hold two descriptors here and two in each proxy.
const DESCRIPTORS: u64 = 16_384;

/// Takes the measurement.
pub(crate) fn measure(runs: u32) -> Result<Series, BenchError> {
    raise_descriptor_limit();
    let mut series = Series::new(ABOUT.name);
    let service = load::echo(Ipv4Addr::LOCALHOST).map_err(|error| BenchError::Load {
        what: "the echo service".to_owned(),
        error,
    })?;
    let backend = Backend {
        outside: service,
        inside: service,
    };
    let pairs: Vec<Pair> = SYSTEMS
        .into_iter()
        .map(|system| start(system, backend))
        .collect::<Result<_, _>>()?;
    for run in 1..=runs {
        for clients in CLIENTS {
            for pair in &pairs {
                opening(&mut series, pair, clients)?;
            }
        }
        let mut direct = Vec::new();
        for pair in &pairs {
            round_trips(&mut series, pair, &mut direct)?;
        }
        tell(&format!(
            "connections: run {run} of {runs}, rates and round trips"
        ));
    }
    drop(pairs);
    for run in 1..=runs {
        for system in MEMORY_SYSTEMS {
            let pair = start(system, backend)?;
            memory(&mut series, &pair)?;
        }
        tell(&format!("connections: run {run} of {runs}, memory"));
    }
    Ok(series)
}

/// Starts a pair and waits until a byte passes.
fn start(system: System, backend: Backend) -> Result<Pair, BenchError> {
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

fn opening(series: &mut Series, pair: &Pair, clients: usize) -> Result<(), BenchError> {
    let (rate, mut times) = load::connections(pair.address, clients, OPENED / clients)
        .map_err(|error| fault(pair, error))?;
    let (case, system) = (format!("clients={clients}"), pair.system.name());
    series.push(&case, system, RATE, rate);
    for (share, metric) in OPEN {
        series.push(&case, system, metric, load::percentile(&mut times, share));
    }
    Ok(())
}

/// `direct` holds the direct percentiles of this run once the direct system was measured.
fn round_trips(series: &mut Series, pair: &Pair, direct: &mut Vec<f64>) -> Result<(), BenchError> {
    let mut times = load::round_trips(pair.address, TRIPS).map_err(|error| fault(pair, error))?;
    let system = pair.system.name();
    for (index, (share, whole, added)) in TRIP.into_iter().enumerate() {
        let value = load::percentile(&mut times, share);
        series.push("open connection", system, whole, value);
        match direct.get(index) {
            Some(direct) => series.push("open connection", system, added, value - direct),
            None => direct.push(value),
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
    series.push("idle=1000", pair.system.name(), MEMORY, each);
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
