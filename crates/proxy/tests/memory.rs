//! A receiver that stands still holds its senders up, and costs their proxies a bounded amount of
//! memory. A process of its own, because it is measured.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::time::Duration;

use lab::{Lab, backend, path::MIB, within};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, task::JoinSet, time::timeout};

/// Senders at once, all within one trunk.
const SENDERS: usize = 24;
/// What each would send if it could: altogether several times the bound.
const EACH: usize = 64 * MIB;
/// docs/trunk.md: what one end keeps for its peer, and what waits for readers at the other; here
/// both are in this process.
const BOUND: usize = (128 + 256) * MIB;
/// Sockets' own buffers do not count as resident; TLS, tasks and allocator do.
const ELSE: usize = 64 * MIB;

fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_receivers_cost_their_proxies_no_more_than_the_bound() {
    let (address, mut connections) = backend().await;
    let lab = Lab::new(&[address]);
    let _sites = (lab.hokkaido().await, lab.osaka().await);
    let before = resident();
    let mut senders = JoinSet::new();
    let mut services = Vec::new();
    for _ in 0..SENDERS {
        let mut app = lab.connect().await;
        services.push(within(connections.recv()).await.unwrap());
        senders.spawn(async move {
            let block = vec![7; MIB];
            let mut sent = 0;
            while sent < EACH {
                // Nothing taken for three seconds: it is held up.
                match timeout(Duration::from_secs(3), app.write(&block)).await {
                    Ok(count) => sent += count.unwrap(),
                    Err(_) => break,
                }
            }
            (app, sent)
        });
    }
    let (mut apps, mut taken) = (Vec::new(), 0);
    while let Some(ended) = senders.join_next().await {
        let (app, sent) = ended.unwrap();
        apps.push(app);
        taken += sent;
    }
    let grown = resident().saturating_sub(before);
    assert!(
        taken < SENDERS * EACH,
        "nothing holds the senders up: {taken} bytes"
    );
    assert!(
        grown < BOUND + ELSE,
        "{} MiB for {} MiB taken from {SENDERS} senders",
        grown / MIB,
        taken / MIB
    );
    // Whoever reads again gets all of it.
    let (mut app, mut service) = (apps.remove(0), services.remove(0));
    drop((apps, services));
    app.shutdown().await.unwrap();
    let mut heard = 0;
    let mut block = vec![0; MIB];
    loop {
        match within(service.read(&mut block)).await.unwrap() {
            0 => break,
            count => heard += count,
        }
    }
    assert!(heard > 0);
}
