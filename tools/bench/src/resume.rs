//! A large transfer while the path is cut and while its connections are reset: does it arrive, and
//! is it whole?

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread::{Scope, sleep},
    time::{Duration, Instant},
};

use aws_lc_rs::digest::{Context, SHA256};
use renkei_wan::{Path, Profile, Side, Wan};

use crate::{
    choice::Choice,
    error::BenchError,
    pair::{Backend, Pair, System},
    place::Place,
    report::About,
    row::{Metric, Series},
    tell,
};

/// What its page in docs/results says.
pub(crate) const ABOUT: About = About {
    name: "resume",
    title: "A transfer while connections are reset and the path is cut",
    method: "1 GB over one connection of the application across 23 ms, profile 2021, checked by \
             its SHA-256. resets: every second one TCP connection between the two sides, chosen at \
             random, is reset. cut: after one second the path carries nothing for 10 s. `whole` is \
             1 when all bytes arrived over one connection, also at the receiver, and it ended \
             cleanly.",
    drawn: &[WHOLE, TIME],
};

const WHOLE: Metric = Metric("whole", "of 1");
const TIME: Metric = Metric("time", "s");
const RESETS: Metric = Metric("connections reset", "");
const SYSTEMS: [System; 3] = [System::Direct, System::Renkei, System::Envoy];
const BLOCK: usize = 1 << 20;
const BLOCKS: usize = 1000;
/// How long either side waits for a byte: longer than the cut and TCP's back-off behind it.
const TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disturbance {
    Resets,
    Cut,
}

/// Takes the measurement.
pub(crate) fn measure(choice: &Choice) -> Result<Series, BenchError> {
    let mut series = Series::new(ABOUT.name);
    let path = Path::new(Duration::from_millis(23));
    let wan = Wan::new(path, Profile::Year2021, 1)?;
    let systems = choice.systems(&SYSTEMS);
    let mut cases = vec![(Disturbance::Resets, "resets"), (Disturbance::Cut, "cut")];
    cases.retain(|(_, case)| choice.takes(case));
    for run in 1..=choice.runs {
        for (disturbance, case) in cases.iter().copied() {
            for system in systems.iter().copied() {
                // A receiver and a pair of its own: what is broken stays with this run.
                let listener = wan
                    .inside(Side::B, || TcpListener::bind("0.0.0.0:0"))?
                    .map_err(fault)?;
                let port = listener.local_addr().map_err(fault)?.port();
                let pair = Pair::start(system, Place::Wan(&wan), Backend::on_side_b(port))?;
                let Ended {
                    whole,
                    time,
                    resets,
                } = one(&wan, &pair, &listener, disturbance)?;
                if disturbance == Disturbance::Resets {
                    series.push(case, system.name(), RESETS, resets.into());
                }
                tell(&format!(
                    "{case}: run {run} of {}, {}: {} after {:.1} s",
                    choice.runs,
                    system.name(),
                    if whole { "whole" } else { "broken" },
                    time.as_secs_f64()
                ));
                series.push(case, system.name(), WHOLE, f64::from(u8::from(whole)));
                if whole {
                    series.push(case, system.name(), TIME, time.as_secs_f64());
                }
            }
        }
    }
    Ok(series)
}

/// How a transfer ended.
struct Ended {
    whole: bool,
    time: Duration,
    /// Connections that were reset meanwhile.
    resets: u32,
}

/// Times one transfer.
fn one(
    wan: &Wan,
    pair: &Pair,
    listener: &TcpListener,
    disturbance: Disturbance,
) -> Result<Ended, BenchError> {
    let (ended, resets) = (AtomicBool::new(false), AtomicU32::new(0));
    let start = Instant::now();
    let ended_as = std::thread::scope(|scope| {
        disturb(scope, wan, pair, disturbance, (&ended, &resets));
        let receiver = scope.spawn(|| receive(listener));
        let stream = wan.inside(Side::A, || TcpStream::connect(pair.address))?;
        let sent = stream.and_then(send);
        if sent.is_err() {
            // Whatever the sender could not open is not waited for.
            let _ = wan.inside(Side::B, || wake(listener))?;
        }
        let received = receiver
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the receiver panicked")));
        ended.store(true, Relaxed);
        let whole = match (sent, received) {
            (Ok(sent), Ok(got)) => sent == got && no_more(listener).map_err(fault)?,
            (sent, received) => {
                for (what, error) in [("sent", sent.err()), ("received", received.err())] {
                    if let Some(error) = error {
                        tell(&format!("not all was {what}: {error}"));
                    }
                }
                false
            }
        };
        Ok::<_, BenchError>(Ended {
            whole,
            time: start.elapsed(),
            resets: resets.load(Relaxed),
        })
    })?;
    wan.cut(Duration::ZERO);
    Ok(ended_as)
}

/// Disturbs the path in a thread of its own until the transfer has ended.
fn disturb<'scope>(
    scope: &'scope Scope<'scope, '_>,
    wan: &'scope Wan,
    pair: &'scope Pair,
    disturbance: Disturbance,
    (ended, resets): (&'scope AtomicBool, &'scope AtomicU32),
) {
    scope.spawn(move || {
        let mut seconds = 0;
        while !ended.load(Relaxed) {
            sleep(Duration::from_millis(1000));
            seconds += 1;
            let done = match disturbance {
                Disturbance::Resets => wan.reset_one(pair.between.port()).map(|reset| {
                    resets.fetch_add(reset.into(), Relaxed);
                }),
                Disturbance::Cut if seconds == 1 => {
                    wan.cut(Duration::from_secs(10));
                    Ok(())
                }
                Disturbance::Cut => Ok(()),
            };
            if let Err(error) = done {
                tell(&format!("no disturbance: {error}"));
            }
        }
    });
}

/// Sends the blocks; gives the hash of what was sent.
fn send(mut stream: TcpStream) -> io::Result<Vec<u8>> {
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut random = fastrand::Rng::with_seed(1);
    let mut block = vec![0; BLOCK];
    let mut hash = Context::new(&SHA256);
    for _ in 0..BLOCKS {
        random.fill(&mut block);
        hash.update(&block);
        stream.write_all(&block)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // The receiver closes once it has all.
    stream.read_to_end(&mut Vec::new())?;
    Ok(hash.finish().as_ref().to_vec())
}

/// Takes one connection to its end; gives the hash of what came.
fn receive(listener: &TcpListener) -> io::Result<Vec<u8>> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let mut block = vec![0; BLOCK];
    let mut hash = Context::new(&SHA256);
    loop {
        match stream.read(&mut block) {
            Ok(0) => return Ok(hash.finish().as_ref().to_vec()),
            Ok(count) => hash.update(block.get(..count).unwrap_or_default()),
            // With a timeout set, the kernel does not go on by itself after a signal.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether there was no other connection than the one that was taken.
fn no_more(listener: &TcpListener) -> io::Result<bool> {
    listener.set_nonblocking(true)?;
    match listener.accept() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        other => other.map(|_| false),
    }
}

/// Lets a receiver that waits for its connection go on; one that has it does not notice.
fn wake(listener: &TcpListener) -> io::Result<()> {
    let port = listener.local_addr()?.port();
    drop(TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port))?);
    Ok(())
}

fn fault(error: io::Error) -> BenchError {
    BenchError::Load {
        what: "the receiver".to_owned(),
        error,
    }
}
