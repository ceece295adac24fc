//! The WAN as its users see it: round trips, bytes, losses, cuts, and nothing left behind.
//!
//! These tests make network namespaces and need root; without it they fail and say so.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use renkei_wan::{Path, Profile, Side, Wan};

const RTT: Duration = Duration::from_millis(40);

fn wan(path: Path) -> Wan {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests make network namespaces: run them as root"
    );
    Wan::new(path, Profile::Year2021, 1).expect("two namespaces and a path")
}

/// Pings side B from side A `count` times; gives the replies and the least time in milliseconds.
fn ping(wan: &Wan, count: u32) -> (usize, f64) {
    let mut command = wan.command(Side::A, "ping");
    command.args(["-n", "-i", "0.1", "-W", "1", "-c", &count.to_string()]);
    let output = command
        .arg(Side::B.address().to_string())
        .output()
        .expect("ping (iputils-ping) runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let times: Vec<f64> = said
        .split("time=")
        .skip(1)
        .filter_map(|rest| rest.split(' ').next()?.parse().ok())
        .collect();
    let least = times.iter().copied().fold(f64::INFINITY, f64::min);
    (times.len(), least)
}

/// Sends `megabytes` from A to B and checks every byte; a reset ends it with an error.
fn transfer(wan: &Wan, megabytes: usize) -> std::io::Result<()> {
    let data: Vec<u8> = (0..1 << 20).map(|index| (index % 251) as u8).collect();
    let listen = || TcpListener::bind((Side::B.address(), 0));
    let listener = wan.inside(Side::B, listen).expect("side B")?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| {
            let (mut stream, _) = listener.accept()?;
            let mut block = vec![0; data.len()];
            for _ in 0..megabytes {
                stream.read_exact(&mut block)?;
                assert!(block == data, "what was sent came");
            }
            std::io::Result::Ok(())
        });
        let connect = || TcpStream::connect(address);
        let mut stream = wan.inside(Side::A, connect).expect("side A")?;
        let sent = (0..megabytes).try_for_each(|_| stream.write_all(&data));
        receiver.join().expect("no panic").and(sent)
    })
}

#[test]
fn a_round_trip_takes_what_was_set_and_the_path_changes_live() {
    let wan = wan(Path::new(RTT));
    let (replies, least) = ping(&wan, 5);
    assert_eq!(replies, 5);
    assert!((40.0..80.0).contains(&least), "{least} ms for 40 ms");
    wan.set_path(Path::new(3 * RTT)).expect("a longer path");
    let (_, least) = ping(&wan, 5);
    assert!((120.0..180.0).contains(&least), "{least} ms for 120 ms");
}

#[test]
fn bytes_cross_whole_through_loss_and_a_cut() {
    let wan = wan(Path::new(RTT / 4).with_loss(1e-3));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            sleep(Duration::from_millis(300));
            wan.cut(Duration::from_millis(500));
        });
        transfer(&wan, 24).expect("TCP repairs what is lost");
    });
    let seen = wan.statistics();
    assert!(seen.lost > 5, "TCP repaired losses: {seen:?}");
    assert!(seen.cut > 0, "the cut took segments: {seen:?}");
    assert!(
        seen.carried < 40_000,
        "super-packets travel whole: {seen:?}"
    );
}

#[test]
fn bytes_cross_whole_through_jitter_and_bursts_of_losses() {
    let wan = wan(Path {
        jitter: RTT / 20,
        burst: Some(4.0),
        ..Path::new(RTT / 4).with_loss(2e-3)
    });
    transfer(&wan, 6).expect("TCP repairs what is lost");
    let seen = wan.statistics();
    assert!(seen.lost > 3, "bursts of losses: {seen:?}");
    let (_, least) = ping(&wan, 10);
    assert!((10.0..30.0).contains(&least), "{least} ms for 10 to 14");
}

#[test]
fn a_cut_path_carries_nothing_and_heals() {
    let wan = wan(Path::new(RTT / 4));
    wan.cut(Duration::from_secs(60));
    assert_eq!(ping(&wan, 3).0, 0);
    wan.cut(Duration::ZERO);
    assert_eq!(ping(&wan, 3).0, 3);
}

#[test]
fn a_rate_limit_holds_with_a_bounded_queue() {
    let limited = Path {
        rate: Some(80_000_000),
        ..Path::new(RTT / 4)
    };
    let wan = wan(limited);
    let started = Instant::now();
    transfer(&wan, 8).expect("all");
    let rate = 8.0 * 8.0 * 1.048_576 / started.elapsed().as_secs_f64();
    assert!(rate < 80.0, "{rate} Mbit/s through 80");
}

#[test]
fn a_connection_is_reset_under_its_application() {
    let wan = wan(Path::new(RTT));
    let listen = || TcpListener::bind((Side::B.address(), 0)).expect("listener");
    let listener = wan.inside(Side::B, listen).expect("side B");
    let address = listener.local_addr().expect("address");
    assert!(!wan.reset_one(address.port()).expect("ss runs"));
    let connect = || TcpStream::connect(address).expect("a connection");
    let mut near = wan.inside(Side::A, connect).expect("side A");
    let (mut far, _) = listener.accept().expect("its other end");
    assert!(wan.reset_one(address.port()).expect("ss runs"));
    assert!(near.read(&mut [0]).is_err(), "aborted here");
    assert!(far.read(&mut [0]).is_err(), "reset there");
}

#[test]
fn nothing_is_left_when_the_program_is_killed() {
    let mut run = Command::new(env!("CARGO_BIN_EXE_renkei-wan"));
    let mut run = run
        .args([
            "run",
            "--far",
            "sleep 61",
            "--",
            "sh",
            "-c",
            "sleep 62 & readlink /proc/self/ns/net; wait",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("renkei-wan runs");
    let mut output = std::io::BufReader::new(run.stdout.take().expect("its output"));
    let mut namespace = String::new();
    std::io::BufRead::read_line(&mut output, &mut namespace).expect("its namespace");
    let namespace = namespace.trim();
    assert!(
        namespace.starts_with("net:["),
        "it needs root: {namespace:?}"
    );
    assert!(inhabitants(namespace) >= 2, "sh and sleep are inside");
    Command::new("kill")
        .args(["-TERM", &run.id().to_string()])
        .status()
        .expect("kill runs");
    assert_eq!(run.wait().expect("its end").code(), Some(143));
    let limit = Instant::now() + Duration::from_secs(10);
    while inhabitants(namespace) > 0 {
        assert!(
            Instant::now() < limit,
            "processes are left in the namespace"
        );
        sleep(Duration::from_millis(50));
    }
}

/// How many processes are in the namespace.
fn inhabitants(namespace: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("/proc").flatten();
    entries
        .filter_map(|entry| std::fs::read_link(entry.path().join("ns/net")).ok())
        .filter(|link| link.as_os_str() == namespace)
        .count()
}
