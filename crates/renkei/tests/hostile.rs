//! Those who mean harm, at every listener and socket of a running site: it goes on serving, and
//! does not fill the disk with what it says about them.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use lab::{
    SOON, Site, echo, exchange, exchange_soon, foreign::pattern, metrics::admin_of, two_sites,
};
use renkei_testkit::wait_for;

/// Where a site can be reached.
#[derive(Debug, Clone)]
enum Door {
    Port(SocketAddr),
    Socket(PathBuf),
}

trait Both: Read + Write {}
impl<T: Read + Write> Both for T {}

impl Door {
    /// A connection; none when the queue of a socket is full, as a flood makes it.
    fn open(&self) -> Option<Box<dyn Both>> {
        let limit = Some(Duration::from_secs(1));
        match self {
            Self::Port(address) => {
                let stream = TcpStream::connect(address).ok()?;
                stream.set_read_timeout(limit).ok()?;
                stream.set_write_timeout(limit).ok()?;
                Some(Box::new(stream))
            }
            Self::Socket(path) => {
                let stream = UnixStream::connect(path).ok()?;
                stream.set_read_timeout(limit).ok()?;
                stream.set_write_timeout(limit).ok()?;
                Some(Box::new(stream))
            }
        }
    }
}

fn doors(site: &mut Site, local: SocketAddr) -> Vec<Door> {
    let admin = admin_of(site);
    vec![
        Door::Port(site.gateway),
        Door::Port(local),
        Door::Port(admin),
        Door::Socket(site.state().join("control.sock")),
        Door::Socket(site.workload_socket()),
    ]
}

/// Openings of protocols that lead nowhere, each followed by noise.
const OPENINGS: [&[u8]; 8] = [
    b"",
    b"\0",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: ",
    b"POST /apply HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\n",
    b"POST /apply HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\xff\xff\x03\x03",
    b"\x16\x03\x01\xff\xff",
];

#[test]
fn noise_at_every_door_disturbs_nobody() {
    let (_hokkaido, mut osaka, local) = two_sites(echo());
    exchange_soon(local, b"before");
    let noise = pattern(100_000);
    for door in doors(&mut osaka, local) {
        for opening in OPENINGS {
            for length in [0, 9, 4_000, 100_000] {
                let Some(mut stream) = door.open() else {
                    continue;
                };
                // What breaks off here is refused, which is right.
                let _ = stream.write_all(opening);
                let _ = stream.write_all(&noise[..length]);
                if length > 9 {
                    let _ = stream.read(&mut [0; 64]);
                }
            }
        }
        assert!(osaka.process().is_running(), "{door:?}");
        assert_eq!(osaka.status()["ready"], true, "{door:?}");
        assert_eq!(exchange(local, b"between").expect("echo"), b"between");
    }
}

#[test]
fn connections_in_a_flood_or_held_open_keep_nobody_out_and_the_log_short() {
    let begin = Instant::now();
    let (_hokkaido, mut osaka, local) = two_sites(echo());
    exchange_soon(local, b"before");
    let (doors, admin) = (doors(&mut osaka, local), admin_of(&mut osaka));
    let mut held = Vec::new();
    for door in &doors {
        for _ in 0..2_000 {
            drop(door.open());
        }
        let open = || Some((door.clone(), door.open()?));
        held.extend((0..100).filter_map(|_| open()));
    }
    assert_eq!(exchange(local, b"during").expect("echo"), b"during");
    // The admin port and the control socket close what sends no head in time.
    for (door, stream) in &mut held {
        if matches!(door, Door::Port(port) if *port == admin) {
            wait_for("a silent connection is closed", SOON, || {
                stream.read(&mut [0; 64]).is_ok().then_some(())
            });
        }
    }
    assert_eq!(osaka.status()["ready"], true);
    assert_eq!(exchange(local, b"after").expect("echo"), b"after");
    drop(held);
    // Callers that leave at once are attested by their user, and carried.
    wait_for("most of the connections are counted", SOON, || {
        let counted = connections(&osaka) + osaka.refused("caller_closed");
        (counted > 1_000).then_some(())
    });
    // 20 lines of a kind in 10 s, and about ten kinds.
    let windows = begin.elapsed().as_secs() / 10 + 1;
    let most = 200 + 200 * usize::try_from(windows).expect("a number");
    let log = osaka.process().output();
    let lines = log.lines().count();
    assert!(lines < most, "{lines} lines:\n{log}");
}

/// How many connections of its workloads the site has carried.
fn connections(site: &Site) -> u64 {
    let status = site.status();
    let totals = status["proxy"]["totals"].as_array().cloned();
    let totals = totals.unwrap_or_default().into_iter();
    totals
        .filter_map(|total| total["connections"].as_u64())
        .sum()
}
