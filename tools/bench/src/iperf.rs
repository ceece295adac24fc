//! iperf3, unmodified: the client whose stream is measured, and its server.

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

use renkei_wan::Side;
use serde_json::Value;

use crate::{
    error::BenchError,
    pair::{Backend, Pair, Protocol},
    place::Place,
    process::{READY, Running, find, output},
    tell,
};

/// How the client sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    pub(crate) seconds: u32,
    pub(crate) streams: u32,
    /// Sizes of the socket buffers that the application asks for.
    pub(crate) buffers: Option<&'static str>,
    /// The server sends, as when data is fetched.
    pub(crate) reverse: bool,
}

impl Stream {
    /// One stream of an application that leaves its buffers to the kernel.
    pub(crate) fn one(seconds: u32) -> Self {
        Self {
            seconds,
            streams: 1,
            buffers: None,
            reverse: false,
        }
    }
}

/// What one run gave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) megabits_per_second: f64,
    /// Of both proxies, in seconds per 10^9 bytes received.
    pub(crate) cpu_seconds_per_gigabyte: Option<f64>,
}

/// iperf3 on both sides of a place.
#[derive(Debug)]
pub(crate) struct Iperf<'a> {
    place: Place<'a>,
    program: PathBuf,
    pub(crate) backend: Backend,
    _server: Running,
    _folder: tempfile::TempDir,
}

impl<'a> Iperf<'a> {
    /// Starts the server on side B.
    pub(crate) fn start(place: Place<'a>) -> Result<Self, BenchError> {
        let program = find("iperf3")?;
        let outside = place.reachable(Side::B);
        let folder = tempfile::TempDir::with_prefix("renkei-bench-")
            .map_err(BenchError::file(&std::env::temp_dir()))?;
        let mut command = place.command(Side::B, &program);
        command.args(["-s", "-p", &outside.port().to_string()]);
        let server = Running::start("iperf3-server", folder.path(), command)?;
        Ok(Self {
            place,
            program,
            backend: Backend {
                outside,
                inside: (Ipv4Addr::LOCALHOST, outside.port()).into(),
                protocol: Protocol::Tcp,
            },
            _server: server,
            _folder: folder,
        })
    }

    /// Sends a little until it passes: everything in between is up and warm then.
    pub(crate) fn warm(&self, pair: &Pair) -> Result<(), BenchError> {
        let limit = Instant::now() + READY;
        loop {
            match self.client(pair, &["-n", "4M"]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > limit => return Err(error),
                Err(_) => sleep(Duration::from_millis(200)),
            }
        }
    }

    /// One run through a pair. While the server is still busy with what the run before left in
    /// buffers, it waits; any other fault has two more attempts, each told.
    pub(crate) fn run(&self, pair: &Pair, stream: Stream) -> Result<Flow, BenchError> {
        let limit = Instant::now() + READY;
        let mut faults = 0;
        loop {
            match self.attempt(pair, stream) {
                Err(error) if error.is_busy() && Instant::now() < limit => {}
                Err(error) if faults < 2 => {
                    faults += 1;
                    tell(&format!("{error}\nonce more"));
                }
                ended => return ended,
            }
            sleep(Duration::from_secs(1));
        }
    }

    fn attempt(&self, pair: &Pair, stream: Stream) -> Result<Flow, BenchError> {
        let (seconds, streams) = (stream.seconds.to_string(), stream.streams.to_string());
        let mut words = vec!["-t", &seconds, "-P", &streams];
        words.extend(stream.buffers.into_iter().flat_map(|size| ["-w", size]));
        words.extend(stream.reverse.then_some("-R"));
        let before = pair.cpu_seconds()?;
        let answer = self.client(pair, &words)?;
        let used = pair.cpu_seconds()? - before;
        let received = |field: &str| {
            let value = answer.pointer(&format!("/end/sum_received/{field}"));
            value.and_then(Value::as_f64).filter(|value| *value > 0.0)
        };
        let (Some(bytes), Some(rate)) = (received("bytes"), received("bits_per_second")) else {
            return Err(BenchError::Failed {
                what: format!("iperf3 through {}", pair.system.name()),
                said: format!(
                    "nothing was received: {}",
                    answer.get("end").unwrap_or(&Value::Null)
                ),
            });
        };
        Ok(Flow {
            megabits_per_second: rate / 1e6,
            cpu_seconds_per_gigabyte: pair.has_proxies().then_some(used / (bytes / 1e9)),
        })
    }

    fn client(&self, pair: &Pair, words: &[&str]) -> Result<Value, BenchError> {
        let (ip, port) = (
            pair.address.ip().to_string(),
            pair.address.port().to_string(),
        );
        let mut command = self.place.command(Side::A, &self.program);
        command.args(["-c", &ip, "-p", &port, "-J", "--connect-timeout", "5000"]);
        let name = format!("iperf3 through {}", pair.system.name());
        let said = output(&name, command.args(words))?;
        let answer: Value = serde_json::from_str(&said).map_err(|error| BenchError::Answer {
            program: name.clone(),
            error,
        })?;
        match answer.get("error").and_then(Value::as_str) {
            None => Ok(answer),
            Some(said) => Err(BenchError::Failed {
                what: name,
                said: said.to_owned(),
            }),
        }
    }
}
