//! What a request of HTTP costs: with a connection for each, and over kept connections.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Builder,
};

use crate::{
    choice::Choice,
    connections::raise_descriptor_limit,
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
    name: "http",
    title: "Requests of HTTP",
    method: "Over loopback, direct and through two proxies with mutual TLS 1.3 between them, to a \
             service of HTTP/1.1 that answers with two bytes. new: sixteen clients, each with a \
             connection for each request (`connection: close`). kept: sixteen clients with a \
             connection each. Taken in slices of at most 250 ms, the systems in turns. Renkei: \
             `protocol: http`. Envoy: the HTTP connection manager in both proxies, each of which \
             keeps connections to the next.",
    drawn: &[RATE],
};

const RATE: Metric = Metric("requests", "1/s");
/// Percentiles of the time of a request, with its connection if it has one of its own.
const TIMES: [(f64, Metric); 2] = [
    (0.5, Metric("request p50", "us")),
    (0.99, Metric("request p99", "us")),
];
const SYSTEMS: [System; 3] = [System::Direct, System::Renkei, System::Envoy];
const CLIENTS: usize = 16;
const NEW: &str = "connection=new clients=16";
const KEPT: &str = "connection=kept clients=16";
/// A run goes through the systems so many times, each for a slice.
const SLICES: usize = 10;
const SLICE: Duration = Duration::from_millis(250);
/// Each connection leaves a port that cannot be used for a while.
const MOST_NEW: usize = 400;
/// What a step may take before it counts as failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest head of a request or an answer.
const MOST_HEAD: usize = 16 * 1024;

const ASK_ONCE: &[u8] = b"GET / HTTP/1.1\r\nhost: target\r\nconnection: close\r\n\r\n";
const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: target\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Takes the measurement.
pub(crate) fn measure(choice: &Choice) -> Result<Series, BenchError> {
    raise_descriptor_limit();
    let mut series = Series::new(ABOUT.name);
    let cases: Vec<&str> = [NEW, KEPT]
        .into_iter()
        .filter(|case| choice.takes(case))
        .collect();
    if cases.is_empty() {
        return Ok(series);
    }
    let service = serve(Ipv4Addr::LOCALHOST).map_err(|error| BenchError::Load {
        what: "the service of HTTP".to_owned(),
        error,
    })?;
    let backend = Backend {
        outside: service,
        inside: service,
        protocol: Protocol::Http,
    };
    let pairs: Vec<Pair> = choice
        .systems(&SYSTEMS)
        .into_iter()
        .map(|system| start(system, backend))
        .collect::<Result<_, _>>()?;
    for run in 1..=choice.runs {
        for case in &cases {
            one_case(&mut series, case, &pairs)?;
        }
        tell(&format!("http: run {run} of {}", choice.runs));
    }
    Ok(series)
}

/// Starts a pair and waits until a request is answered.
fn start(system: System, backend: Backend) -> Result<Pair, BenchError> {
    let pair = Pair::start(system, Place::Loopback, backend)?;
    let limit = Instant::now() + READY;
    while let Err(error) = ask_once(pair.address) {
        if Instant::now() > limit {
            return Err(fault(&pair, error));
        }
        sleep(Duration::from_millis(100));
    }
    Ok(pair)
}

/// Requests, in slices by turns.
fn one_case(series: &mut Series, case: &str, pairs: &[Pair]) -> Result<(), BenchError> {
    let mut all: Vec<(Duration, Vec<Duration>)> = vec![Default::default(); pairs.len()];
    for _ in 0..SLICES {
        for (pair, (spent, times)) in pairs.iter().zip(&mut all) {
            let address = pair.address;
            let slice = match case {
                NEW => load::repeated(CLIENTS, (SLICE, MOST_NEW), || Ok(move || ask_once(address))),
                _ => load::repeated(CLIENTS, (SLICE, usize::MAX), || {
                    let mut stream = connect(address)?;
                    Ok(move || ask(&mut stream))
                }),
            };
            let (took, slice) = slice.map_err(|error| fault(pair, error))?;
            *spent += took;
            times.extend(slice);
        }
    }
    for (pair, (spent, mut times)) in pairs.iter().zip(all) {
        let system = pair.system.name();
        let rate = times.len() as f64 / spent.as_secs_f64();
        series.push(case, system, RATE, rate);
        for (share, metric) in TIMES {
            series.push(case, system, metric, load::percentile(&mut times, share));
        }
    }
    Ok(())
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, DEADLINE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// A request over a connection of its own, up to its end.
fn ask_once(address: SocketAddr) -> io::Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(ASK_ONCE)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    judge(&answer)
}

/// A request over an open connection.
fn ask(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(ASK)?;
    let mut answer = Vec::new();
    let mut buffer = [0; 1024];
    // A body of two bytes behind the head.
    while !answer.ends_with(b"\r\n\r\nok") && answer.len() < MOST_HEAD {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => answer.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    judge(&answer)
}

fn judge(answer: &[u8]) -> io::Result<()> {
    match answer.starts_with(b"HTTP/1.1 200 ") && answer.ends_with(b"\r\n\r\nok") {
        true => Ok(()),
        false => {
            let answer = String::from_utf8_lossy(answer);
            Err(io::Error::other(format!("an unexpected answer: {answer}")))
        }
    }
}

/// Starts a service that answers every request with two bytes; it serves as long as this program
/// runs.
fn serve(ip: Ipv4Addr) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((ip, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            loop {
                // What keeps one connection from being taken is no concern of the others.
                match listener.accept().await {
                    Ok((stream, _)) => drop(tokio::spawn(answer(stream))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
    });
    Ok(address)
}

/// Answers requests without bodies, until the caller closes or asks for that.
async fn answer(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while head.len() < MOST_HEAD && stream.read_buf(&mut head).await? > 0 {
        if head.ends_with(b"\r\n\r\n") {
            stream.write_all(ANSWER).await?;
            let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
            if text.contains("\r\nconnection: close\r\n") {
                return Ok(());
            }
            head.clear();
        }
    }
    Ok(())
}

fn fault(pair: &Pair, error: io::Error) -> BenchError {
    BenchError::Load {
        what: pair.system.name().to_owned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_requests_are_answered_by_the_service() {
        let address = serve(Ipv4Addr::LOCALHOST).expect("service");
        ask_once(address).expect("an answer");
        let mut stream = connect(address).expect("connected");
        for _ in 0..3 {
            ask(&mut stream).expect("an answer");
        }
        assert!(judge(b"HTTP/1.1 503 Service Unavailable\r\n\r\nok").is_err());
    }
}
