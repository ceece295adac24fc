//! Small loads: an echo service, connections that each carry a byte, and round trips of a byte. The
//! same of HTTP: a service, connections for one request each, and requests on an open one.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    runtime::Builder,
};

/// What a single step of the load may take before it counts as failed.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The first byte of a connection whose bytes are only taken.
pub(crate) const SINK: u8 = b's';

/// Starts a service that sends back what it gets, or only takes it; it serves as
/// long as this program runs, in the namespace of the thread that calls it.
pub(crate) fn echo(ip: Ipv4Addr) -> io::Result<SocketAddr> {
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
                    Ok((stream, _)) => drop(tokio::spawn(serve(stream))),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
    });
    Ok(address)
}

/// Ends with the connection, however it ends.
async fn serve(mut stream: tokio::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 1 << 16];
    let mut count = stream.read(&mut buffer).await?;
    let sink = buffer.first() == Some(&SINK);
    while count > 0 {
        if !sink {
            let got = buffer.get(..count).unwrap_or_default();
            stream.write_all(got).await?;
        }
        count = stream.read(&mut buffer).await?;
    }
    Ok(())
}

/// A connection over which a byte went there and back.
pub(crate) fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    round_trip(&mut stream)?;
    Ok(stream)
}

fn round_trip(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"r")?;
    stream.read_exact(&mut [0])
}

/// Connections one after the other by each of `clients`, for `length` and at most `most` of them
/// altogether; gives the time that passed and the time of each.
pub(crate) fn connections(
    address: SocketAddr,
    clients: usize,
    length: Duration,
    most: usize,
) -> io::Result<(Duration, Vec<Duration>)> {
    let client = || Ok(|| open(address).map(drop));
    repeated(clients, (length, most), client)
}

/// The same for the step that `client` makes for each of the clients, before the time begins.
pub(crate) fn repeated<S: FnMut() -> io::Result<()> + Send>(
    clients: usize,
    (length, most): (Duration, usize),
    client: impl Fn() -> io::Result<S>,
) -> io::Result<(Duration, Vec<Duration>)> {
    let steps: Vec<S> = (0..clients).map(|_| client()).collect::<Result<_, _>>()?;
    let start = Instant::now();
    let one_client = |mut step: S| {
        let mut times = Vec::new();
        while start.elapsed() < length && times.len() < most / clients {
            let began = Instant::now();
            step()?;
            times.push(began.elapsed());
        }
        io::Result::Ok(times)
    };
    let times: Vec<Duration> = std::thread::scope(|scope| {
        let one_client = &one_client;
        let spawn = |step| scope.spawn(move || one_client(step));
        let clients: Vec<_> = steps.into_iter().map(spawn).collect();
        let mut times = Vec::new();
        for client in clients {
            let ended = client
                .join()
                .map_err(|_| io::Error::other("a client panicked"))?;
            times.extend(ended?);
        }
        Ok::<_, io::Error>(times)
    })?;
    Ok((start.elapsed(), times))
}

/// The times of `count` round trips of a byte on an open connection.
pub(crate) fn round_trips(stream: &mut TcpStream, count: usize) -> io::Result<Vec<Duration>> {
    (0..count)
        .map(|_| {
            let start = Instant::now();
            round_trip(stream)?;
            Ok(start.elapsed())
        })
        .collect()
}

/// The value below which the share `share` of the times lies, in microseconds.
pub(crate) fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    let index = ((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1));
    times
        .get(index)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_on_the_echo_service_give_a_time_for_each_step() {
        let address = echo(Ipv4Addr::LOCALHOST).expect("service");
        let long = Duration::from_secs(60);
        let (took, times) = connections(address, 2, long, 40).expect("connections");
        assert!(took < long);
        assert_eq!(times.len(), 40);
        let (took, _) = connections(address, 2, Duration::ZERO, 40).expect("none");
        assert!(took < long);
        let mut stream = open(address).expect("connection");
        assert_eq!(round_trips(&mut stream, 30).expect("round trips").len(), 30);
    }

    #[test]
    fn a_sink_takes_bytes_and_sends_none() {
        let address = echo(Ipv4Addr::LOCALHOST).expect("service");
        let mut stream = TcpStream::connect(address).expect("connection");
        stream.write_all(&[SINK; 1 << 20]).expect("all is taken");
        stream.shutdown(std::net::Shutdown::Write).expect("the end");
        let mut back = Vec::new();
        stream.read_to_end(&mut back).expect("its end");
        assert!(back.is_empty());
    }

    #[test]
    fn percentiles_are_times_of_the_sorted_list() {
        let mut times: Vec<Duration> = (1..=100).rev().map(Duration::from_micros).collect();
        assert!((percentile(&mut times, 0.5) - 51.0).abs() < 0.01);
        assert!((percentile(&mut times, 0.99) - 100.0).abs() < 0.01);
        assert!(percentile(&mut [], 0.5).is_nan());
    }
}
