//! What a flow of other people loses to a trunk that shares a path with it, by the lanes that the
//! trunk may have.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use renkei_wan::{Path, Profile, Side, Wan};

use crate::{
    choice::Choice,
    error::BenchError,
    flows::{fault, start},
    load::{self, SINK},
    pair::{Backend, Pair, System},
    process::READY,
    report::About,
    row::{Metric, Series},
    tell,
};

/// What its page in docs/results says.
pub(crate) const ABOUT: About = About {
    name: "neighbour",
    title: "What a neighbouring flow loses to a trunk",
    method: "A path of 23 ms with a rate and a drop-tail queue of one bandwidth-delay product. The \
             neighbour is one direct TCP stream, as other people on a shared link have it. Beside \
             it one application sends all it can: not at all, direct, and through two Renkei sites \
             whose gateways have `max_lanes` of 1, 4 and 16, or a `bandwidth` of a quarter of the \
             rate. The application begins 3 s before the neighbour. Both are counted while both \
             send. CUBIC; TCP profile 2021.",
    drawn: &[NEIGHBOUR, OWN],
};

const NEIGHBOUR: Metric = Metric("neighbour", "Mbit/s");
const OWN: Metric = Metric("application", "Mbit/s");
/// The rates of the path, in Mbit/s.
const RATES: [u64; 2] = [1000, 2500];
/// How long the application sends before the neighbour comes.
const LEAD: Duration = Duration::from_secs(3);

/// Who sends beside the neighbour.
#[derive(Debug)]
struct Beside<'a> {
    case: &'static str,
    system: &'static str,
    /// Where it sends, if it sends.
    pair: Option<&'a Pair>,
}

/// Takes the measurement.
pub(crate) fn measure(choice: &Choice) -> Result<Series, BenchError> {
    let mut series = Series::new(ABOUT.name);
    for rate in RATES {
        at_rate(&mut series, rate, choice)?;
    }
    Ok(series)
}

fn at_rate(series: &mut Series, rate: u64, choice: &Choice) -> Result<(), BenchError> {
    let name = |case: &str| format!("rtt=23 rate={rate} {case}");
    let quarter = format!(", bandwidth: {} Mbit/s", rate / 4);
    let systems = [
        ("beside a direct stream", System::Direct, ""),
        ("beside max_lanes=1", System::Renkei, ", max_lanes: 1"),
        ("beside max_lanes=4", System::Renkei, ", max_lanes: 4"),
        ("beside max_lanes=16", System::Renkei, ", max_lanes: 16"),
        ("beside bandwidth=rate/4", System::Renkei, &quarter),
    ];
    let wanted: Vec<_> = systems
        .into_iter()
        .filter(|(case, system, _)| {
            choice.takes(&name(case)) && !choice.systems(&[*system]).is_empty()
        })
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let path = Path {
        rate: Some(rate * 1_000_000),
        ..Path::new(Duration::from_millis(23))
    };
    let wan = Wan::new(path, Profile::Year2021, 1)?;
    let service = wan
        .inside(Side::B, || load::echo(Ipv4Addr::UNSPECIFIED))?
        .map_err(|error| fault("the sink", error))?;
    let backend = Backend::on_side_b(service.port());
    let pairs = wanted
        .into_iter()
        .map(|(case, system, keys)| Ok((case, start(&wan, system, backend, keys)?)))
        .collect::<Result<Vec<_>, BenchError>>()?;
    let alone = Beside {
        case: "alone",
        system: System::Direct.name(),
        pair: None,
    };
    let others = pairs.iter().map(|(case, pair)| Beside {
        case,
        system: pair.system.name(),
        pair: Some(pair),
    });
    let all: Vec<Beside<'_>> = std::iter::once(alone).chain(others).collect();
    for run in 1..=choice.runs {
        for beside in &all {
            let (neighbour, own) = send(&wan, beside, backend.outside, choice.seconds)?;
            let case = name(beside.case);
            series.push(&case, beside.system, NEIGHBOUR, neighbour);
            if let Some(own) = own {
                series.push(&case, beside.system, OWN, own);
            }
            tell(&format!(
                "{case}: run {run} of {}: the neighbour has {neighbour:.0} Mbit/s, the \
                 application {:.0}",
                choice.runs,
                own.unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// The Mbit/s of the neighbour and of the application beside it, while both send.
fn send(
    wan: &Wan,
    beside: &Beside<'_>,
    sink: SocketAddr,
    seconds: u32,
) -> Result<(f64, Option<f64>), BenchError> {
    let ended = AtomicBool::new(false);
    let (own, neighbour) = (AtomicU64::new(0), AtomicU64::new(0));
    let sent = scope(|scope| {
        let sender = |to: SocketAddr, sent| {
            let ended = &ended;
            scope.spawn(move || wan.inside(Side::A, || bulk(to, sent, ended)))
        };
        let mut senders = Vec::new();
        if let Some(pair) = beside.pair {
            senders.push(sender(pair.address, &own));
            sleep(LEAD);
        }
        senders.push(sender(sink, &neighbour));
        let before = (neighbour.load(Relaxed), own.load(Relaxed), Instant::now());
        sleep(Duration::from_secs(seconds.into()));
        let took = before.2.elapsed().as_secs_f64();
        let rate = |now: &AtomicU64, before| (now.load(Relaxed) - before) as f64 * 8e-6 / took;
        let rates = (rate(&neighbour, before.0), rate(&own, before.1));
        ended.store(true, Relaxed);
        for sender in senders {
            let ended = sender.join();
            ended
                .unwrap_or_else(|_| Ok(Err(io::Error::other("a sender panicked"))))?
                .map_err(|error| fault("a sender", error))?;
        }
        Ok::<_, BenchError>(rates)
    })?;
    // What is on its way does not meet the next ones.
    sleep(Duration::from_secs(1));
    Ok((sent.0, beside.pair.map(|_| sent.1)))
}

/// Sends until it is ended, and counts what was taken.
fn bulk(to: SocketAddr, sent: &AtomicU64, ended: &AtomicBool) -> io::Result<()> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_write_timeout(Some(READY))?;
    let block = vec![SINK; 1 << 18];
    while !ended.load(Relaxed) {
        stream.write_all(&block)?;
        sent.fetch_add(block.len() as u64, Relaxed);
    }
    Ok(())
}
