//! Many small flows beside a bulk flow, through the same proxies: what the small ones feel.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use renkei_wan::{Path, Profile, Side, Wan};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    choice::Choice,
    connections::raise_descriptor_limit,
    error::BenchError,
    load::{self, SINK, percentile},
    pair::{Backend, Pair, System},
    place::Place,
    process::READY,
    row::{Metric, Series},
    tell,
};

const SYSTEMS: [System; 3] = [System::Direct, System::Renkei, System::Envoy];
const FLOWS: u32 = 1000;
/// How many are opened at once.
const BATCH: u32 = 50;
/// Each flow asks once in this time.
const PACE: Duration = Duration::from_millis(500);
pub(crate) const P99: Metric = Metric("small round trip p99", "ms");
pub(crate) const BULK: Metric = Metric("bulk throughput beside small flows", "Mbit/s");
const GROWTH: Metric = Metric("small round trip p99, beside bulk / alone", "x");
const CASE: &str = "rtt=23 profile=2021 loss=0 flows=1000";
const BESIDE_CASE: &str = "rtt=23 profile=2021 loss=0 flows=1000 beside bulk";

/// Takes the measurement.
pub(crate) fn measure(series: &mut Series, choice: &Choice) -> Result<(), BenchError> {
    if !choice.takes(CASE) {
        return Ok(());
    }
    raise_descriptor_limit();
    let wan = Wan::new(Path::new(Duration::from_millis(23)), Profile::Year2021, 1)?;
    let service = wan
        .inside(Side::B, || load::echo(Ipv4Addr::UNSPECIFIED))?
        .map_err(|error| fault("the echo service", error))?;
    let backend = Backend::on_side_b(service.port());
    let pairs: Vec<Pair> = choice
        .systems(&SYSTEMS)
        .into_iter()
        .map(|system| start(&wan, system, backend, ""))
        .collect::<Result<_, _>>()?;
    let time = Duration::from_secs(choice.seconds.into());
    for run in 1..=choice.runs {
        for pair in &pairs {
            let name = pair.system.name();
            let small = || small(&wan, pair, time);
            let alone = small()?;
            let (beside, bulk) = beside_bulk(&wan, pair, small)?;
            series.push(CASE, name, P99, alone);
            series.push(BESIDE_CASE, name, P99, beside);
            series.push(BESIDE_CASE, name, BULK, bulk);
            series.push(CASE, name, GROWTH, beside / alone);
            tell(&format!(
                "{CASE}: run {run} of {}, {name}: p99 {alone:.1} ms alone, {beside:.1} beside bulk",
                choice.runs
            ));
        }
    }
    Ok(())
}

/// Starts a pair and waits until a byte passes.
pub(crate) fn start(
    wan: &Wan,
    system: System,
    backend: Backend,
    gateway: &str,
) -> Result<Pair, BenchError> {
    let pair = Pair::start_with(system, Place::Wan(wan), backend, gateway)?;
    let limit = Instant::now() + READY;
    while let Err(error) = wan.inside(Side::A, || load::open(pair.address))? {
        if Instant::now() > limit {
            return Err(fault(system.name(), error));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(pair)
}

/// The 99th percentile of the small flows' round trips, in milliseconds.
fn small(wan: &Wan, pair: &Pair, time: Duration) -> Result<f64, BenchError> {
    let mut times = wan
        .inside(Side::A, || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(all(pair.address, time))
        })?
        .map_err(|error| fault(pair.system.name(), error))?;
    Ok(percentile(&mut times, 0.99) / 1e3)
}

/// The same while one connection sends all that it can, and that one's Mbit/s: a bulk flow that
/// stands still would leave the others alone, too.
fn beside_bulk(
    wan: &Wan,
    pair: &Pair,
    small: impl FnOnce() -> Result<f64, BenchError>,
) -> Result<(f64, f64), BenchError> {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let bulk = scope.spawn(|| wan.inside(Side::A, || bulk(pair.address, &ended)));
        let measured = small();
        ended.store(true, Relaxed);
        let sent = bulk
            .join()
            .unwrap_or_else(|_| Ok(Err(io::Error::other("the bulk flow panicked"))))?;
        let rate = sent.map_err(|error| fault("the bulk flow", error))?;
        Ok((measured?, rate))
    })
}

/// Sends until it is ended; gives the Mbit/s that were taken.
fn bulk(address: SocketAddr, ended: &AtomicBool) -> io::Result<f64> {
    let mut stream = std::net::TcpStream::connect(address)?;
    stream.set_write_timeout(Some(READY))?;
    let block = vec![SINK; 1 << 18];
    let (start, mut sent) = (Instant::now(), 0);
    while !ended.load(Relaxed) {
        stream.write_all(&block)?;
        sent += block.len();
    }
    Ok(sent as f64 * 8e-6 / start.elapsed().as_secs_f64())
}

/// Opens all flows, then lets each ask for `time`, and gives the times of all round trips.
async fn all(address: SocketAddr, time: Duration) -> io::Result<Vec<Duration>> {
    let mut open = Vec::new();
    for _ in 0..FLOWS / BATCH {
        let mut batch: JoinSet<_> = (0..BATCH).map(|_| connect(address)).collect();
        while let Some(opened) = batch.join_next().await {
            open.push(opened.map_err(io::Error::other)??);
        }
    }
    let mut flows = JoinSet::new();
    for (stream, index) in open.into_iter().zip(0_u32..) {
        flows.spawn(flow(stream, PACE * index / FLOWS, time));
    }
    let mut times = Vec::new();
    while let Some(ended) = flows.join_next().await {
        times.extend(ended.map_err(io::Error::other)??);
    }
    Ok(times)
}

/// A connection that has carried a byte there and back.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    ask(&mut stream).await?;
    Ok(stream)
}

/// One flow: a byte and its echo once every `PACE`.
async fn flow(mut stream: TcpStream, phase: Duration, time: Duration) -> io::Result<Vec<Duration>> {
    sleep(phase).await;
    let mut times = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let taken = ask(&mut stream).await?;
        times.push(taken);
        sleep(PACE.saturating_sub(taken)).await;
    }
    Ok(times)
}

/// The time of a byte and its echo.
async fn ask(stream: &mut TcpStream) -> io::Result<Duration> {
    let asked = Instant::now();
    stream.write_all(b"r").await?;
    timeout(READY, stream.read_exact(&mut [0])).await??;
    Ok(asked.elapsed())
}

pub(crate) fn fault(what: &str, error: io::Error) -> BenchError {
    BenchError::Load {
        what: what.to_owned(),
        error,
    }
}
