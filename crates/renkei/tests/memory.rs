//! What a burst of connections leaves behind, in real processes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use lab::{Site, exchange_soon, serve, two_sites};
use renkei_testkit::wait_for;

const MIB: u64 = 1 << 20;
/// Downloads, and how much of each is read before its reader stops.
const STOPPED: usize = 40;
const READ: usize = 30 << 20;
/// What the burst takes, and how much larger a site may be afterwards than it was.
const BURST: u64 = 24 * MIB;
const NEAR: u64 = 48 * MIB;
/// A site gives back within a minute; a busy machine may need longer.
const TIMEOUT: Duration = Duration::from_secs(300);

fn resident(site: &mut Site) -> u64 {
    let path = format!("/proc/{}/statm", site.process().id());
    let statm = std::fs::read_to_string(path).expect("statm");
    let pages: u64 = statm
        .split(' ')
        .nth(1)
        .expect("field")
        .parse()
        .expect("number");
    pages * rustix::param::page_size() as u64
}

/// Serves bytes without an end to those who ask for them, and sends back what others bring.
fn answer(mut stream: TcpStream) {
    let mut first = [0];
    if stream.read_exact(&mut first).is_err() {
        return;
    }
    if first == *b"d" {
        let block = vec![7; 1 << 20];
        while stream.write_all(&block).is_ok() {}
        return;
    }
    let _ = stream.write_all(&first);
    let _ = std::io::copy(&mut stream.try_clone().expect("clone"), &mut stream);
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

#[test]
fn slow_readers_leave_a_small_request_its_way_and_memory_comes_back() {
    let (mut hokkaido, mut osaka, local) = two_sites(serve(answer));
    exchange_soon(local, b"hello");
    let before = [resident(&mut hokkaido), resident(&mut osaka)];
    let downloads: Vec<TcpStream> = (0..STOPPED)
        .map(|_| {
            let mut stream = TcpStream::connect(local).expect("connection");
            stream.write_all(b"d").expect("request");
            let mut part = vec![0; READ];
            stream.read_exact(&mut part).expect("its beginning");
            stream
        })
        .collect();
    wait_for("the downloads fill what there is", TIMEOUT, || {
        let grown = resident(&mut osaka).saturating_sub(before[1]);
        (grown > BURST).then_some(())
    });
    for _ in 0..3 {
        exchange_soon(local, &[b'e'; 20_000]);
    }
    drop(downloads);
    for (site, before) in [&mut hokkaido, &mut osaka].into_iter().zip(before) {
        wait_for("memory comes back", TIMEOUT, || {
            (resident(site) < before + NEAR).then_some(())
        });
    }
}
