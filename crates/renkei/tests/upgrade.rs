//! Sites upgrade years apart: this release and the one before it as each other's peers, and on
//! each other's state. `scripts/peers/previous` names and builds the release before.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::mpsc::{Receiver, channel},
};

use lab::{
    SHORT_LIFE, SOON, Site, callee,
    connection::Connection,
    echo, exchange, exchange_soon,
    federation::{THREE, three_sites_of, wait_counts},
    foreign::pattern,
    hub::Three,
    link, run, said, serve,
};
use renkei_testkit::{program, wait_for};

/// A site of the release before.
fn previous(name: &str) -> Site {
    Site::of_release(name, &program("RENKEI_PREVIOUS"))
}

/// The pairs of callee and caller: each release calls the other.
fn pairs() -> [(Site, Site); 2] {
    [
        (Site::new("hokkaido"), previous("osaka")),
        (previous("hokkaido"), Site::new("osaka")),
    ]
}

/// Runs a test with both pairs at once.
fn with_pairs(test: impl Fn(Site, Site) + Sync) {
    std::thread::scope(|scope| {
        let runs = pairs().map(|(callee, caller)| scope.spawn(|| test(callee, caller)));
        for run in runs {
            if let Err(panic) = run.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

const SENT: usize = 3_000_000;
const ANSWERED: usize = 2_000_000;

/// A backend that sends its own bytes and ends its direction at once, while it still reads. It
/// reports what it read.
fn crossing() -> (SocketAddr, Receiver<Vec<u8>>) {
    let (report, reports) = channel();
    let address = serve(move |mut stream| {
        let mut reader = stream.try_clone().expect("socket handle");
        let report = report.clone();
        std::thread::spawn(move || {
            let mut got = Vec::new();
            if reader.read_to_end(&mut got).is_ok() {
                let _ = report.send(got);
            }
        });
        let _ = stream.write_all(&pattern(ANSWERED));
        let _ = stream.shutdown(Shutdown::Write);
    });
    (address, reports)
}

#[test]
fn bytes_arrive_whole_in_both_directions_and_either_may_end_first() {
    with_pairs(|mut hokkaido, mut osaka| {
        let (backend, received) = crossing();
        let local = link(&mut hokkaido, &mut osaka, backend);
        let data = pattern(SENT);
        // The backend's direction ends first: the caller sends its second half after that.
        let mut stream = TcpStream::connect(local).expect("connected");
        stream.set_read_timeout(Some(SOON)).expect("timeout");
        stream.write_all(&data[..SENT / 2]).expect("written");
        let mut got = Vec::new();
        stream.read_to_end(&mut got).expect("read to the end");
        assert!(got == *pattern(ANSWERED), "the answer changed on the way");
        stream.write_all(&data[SENT / 2..]).expect("written");
        stream.shutdown(Shutdown::Write).expect("shut down");
        let whole = received.recv_timeout(SOON).expect("a whole transfer");
        assert!(whole == *data, "the bytes changed on the way");
        // The caller's direction ends first.
        hokkaido.write(&callee(&hokkaido, &osaka, echo()));
        assert!(hokkaido.apply().status.success());
        wait_for("the echo is in use", SOON, || {
            let got = exchange(local, &data).ok()?;
            (got == *data).then_some(())
        });
        // Both are Renkei, and share a trunk.
        for site in [&hokkaido, &osaka] {
            let trunks = site.status()["proxy"]["trunks"].clone();
            assert!(trunks[0]["lanes"].as_u64() >= Some(1), "{trunks}");
        }
    });
}

#[test]
fn a_denial_is_understood() {
    with_pairs(|mut hokkaido, mut osaka| {
        let local = link(&mut hokkaido, &mut osaka, echo());
        exchange_soon(local, b"allowed");
        let closed = format!(
            "{}services:\n  echo: {{backends: [127.0.0.1:9]}}\n",
            hokkaido.peers(&[&osaka])
        );
        hokkaido.write(&closed);
        assert!(hokkaido.apply().status.success());
        let got = exchange(local, b"hello");
        assert!(got.as_ref().map_or(true, Vec::is_empty), "{got:?}");
        let sentence = hokkaido.sentence("not_allowed");
        assert!(sentence.contains("osaka.example/collector"), "{sentence}");
        let theirs = osaka.sentence("peer_denied");
        assert!(theirs.contains("hokkaido.example/echo"), "{theirs}");
    });
}

#[test]
fn svids_are_renewed_and_bundles_fetched_under_an_open_connection() {
    with_pairs(|mut hokkaido, mut osaka| {
        (hokkaido.svid_life, osaka.svid_life) = (SHORT_LIFE, SHORT_LIFE);
        let local = link(&mut hokkaido, &mut osaka, echo());
        let mut open = Connection::open(local);
        let ends = [(&hokkaido, "osaka.example"), (&osaka, "hokkaido.example")];
        let before = ends.map(|(site, of)| site.peer(of)["last_success"].clone());
        wait_for("both have renewed twice", 2 * SOON, || {
            open.say();
            (hokkaido.renewals() >= 2 && osaka.renewals() >= 2).then_some(())
        });
        for ((site, of), before) in ends.iter().zip(before) {
            wait_for("a fetch without an error", SOON, || {
                let peer = site.peer(of);
                (peer["last_error"].is_null() && peer["last_success"] != before).then_some(())
            });
        }
        open.say();
        exchange_soon(local, b"and new ones are made");
        for site in [&hokkaido, &osaka] {
            let refused = site.status()["proxy"]["refused"].clone();
            assert_eq!(refused, serde_json::json!([]), "{}", site.name);
        }
    });
}

#[test]
fn either_may_restart_while_the_other_stays() {
    with_pairs(|mut hokkaido, mut osaka| {
        let local = link(&mut hokkaido, &mut osaka, echo());
        let open = Connection::open(local);
        osaka.process().kill();
        open.assert_ended();
        osaka.start();
        exchange_soon(local, b"after the caller's crash");
        hokkaido.process().kill();
        hokkaido.start();
        exchange_soon(local, b"after the callee's crash");
        for stopped in [&mut hokkaido, &mut osaka] {
            stopped.process().signal("TERM");
            assert!(stopped.process().wait(SOON).success());
            stopped.start();
            exchange_soon(local, b"after a stop");
        }
    });
}

#[test]
fn a_hub_of_either_release_serves_sites_of_the_other() {
    let through = |mut sites: [Site; 3]| {
        for site in &mut sites {
            site.svid_life = SHORT_LIFE;
        }
        let three = Three::start_sites(sites);
        exchange_soon(three.local, b"first");
        let data = pattern(SENT);
        let got = exchange(three.local, &data).expect("exchange");
        assert!(got == *data, "bytes changed on the way");
        let mut open = Connection::open(three.local);
        // The link to the hub is renewed with the SVIDs of both of its ends.
        wait_for("both ends have renewed", 2 * SOON, || {
            open.say();
            (three.osaka.renewals() >= 2 && three.hokkaido.renewals() >= 2).then_some(())
        });
        exchange_soon(three.local, b"after renewals");
        assert_eq!(three.relayed()["linked"], true);
    };
    let new = Site::new;
    std::thread::scope(|scope| {
        scope.spawn(|| through([previous("hokkaido"), new("osaka"), new("kyushu")]));
        scope.spawn(|| through([new("hokkaido"), previous("osaka"), previous("kyushu")]));
    });
}

#[test]
fn a_federation_has_members_and_registries_of_both_releases() {
    let member = |sites: [Site; 3], registry: &Path| {
        let (_founded, sites, local) = three_sites_of(sites, registry, "{x509_svid: 2m");
        exchange_soon(local, b"through the federation");
        for site in &sites {
            wait_counts(site, &THREE);
        }
    };
    let new = Site::new;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let sites = [new("hokkaido"), previous("osaka"), new("kyushu")];
            member(sites, &previous("any").program);
        });
        scope.spawn(|| {
            let sites = [previous("hokkaido"), new("osaka"), previous("kyushu")];
            member(sites, &new("any").program);
        });
    });
}

#[test]
fn a_site_that_is_upgraded_keeps_its_ca_and_its_links() {
    let (mut hokkaido, mut osaka) = (previous("hokkaido"), previous("osaka"));
    let local = link(&mut hokkaido, &mut osaka, echo());
    exchange_soon(local, b"both are of the release before");
    for upgraded in [&mut osaka, &mut hokkaido] {
        let bundle = upgraded.own_bundle();
        upgraded.process().signal("TERM");
        assert!(upgraded.process().wait(SOON).success());
        upgraded.program = Site::new("any").program;
        assert_eq!(upgraded.own_bundle(), bundle, "read before the first start");
        upgraded.start();
        assert_eq!(upgraded.own_bundle(), bundle);
        exchange_soon(local, b"one or both are upgraded");
    }
}

/// The files below a folder and what is in them, without those that SQLite may leave behind when
/// all is in the database: an index in memory of its journal, and an empty journal.
fn contents(folder: &Path) -> BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("folder") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            all.extend(contents(&path));
            continue;
        }
        let (name, bytes) = (path.to_string_lossy(), fs::read(&path).expect("file"));
        let is_journal = name.ends_with("-wal") && bytes.is_empty();
        if !is_journal && !name.ends_with("-shm") {
            all.insert(path.clone(), bytes);
        }
    }
    all
}

#[test]
fn the_release_before_refuses_the_state_of_this_one_and_leaves_it_whole() {
    let mut site = Site::new("osaka");
    site.start();
    let bundle = site.own_bundle();
    site.process().signal("TERM");
    assert!(site.process().wait(SOON).success());
    let current = site.program.clone();
    let before = contents(&site.state());
    site.program = previous("any").program;
    let started = run(site.command(&["up", "--admin", "none"]));
    assert_eq!(started.status.code(), Some(1), "{}", said(&started));
    let text = said(&started);
    let text: Vec<&str> = text.split_whitespace().collect();
    let text = text.join(" ");
    let sentence = "renkei.db was written by another version of renkei";
    assert!(text.contains(sentence), "{text}");
    assert_eq!(contents(&site.state()), before, "the folder has changed");
    site.program = current;
    site.start();
    assert_eq!(site.own_bundle(), bundle, "the CA is kept");
}
