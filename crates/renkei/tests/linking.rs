//! Sites that are linked by their lasting identity: each operator hands one line to the other, once.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    fs,
    io::Read,
    net::SocketAddr,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use lab::{
    SOON, Site, assert_unanswered, echo, exchange, exchange_soon,
    faketime::{Clock, start_by, stop},
    own_uid, run, said, serve,
};
use renkei_testkit::{free_address, python, wait_for};
use serde_json::Value;

/// What `renkei identity` prints; makes the keys at the first call.
fn identity(site: &Site) -> Value {
    let shown = run(site.command(&["identity", "--output", "json"]));
    assert!(shown.status.success(), "{}", said(&shown));
    serde_json::from_slice(&shown.stdout).expect("JSON")
}

/// The line that an operator hands out.
fn line(of: &Site) -> String {
    let shown = run(of.command(&["identity"]));
    let text = said(&shown);
    assert!(shown.status.success(), "{text}");
    let begin = format!("{}.example: {{", of.name);
    let line = text.lines().find(|line| line.trim().starts_with(&begin));
    format!("peers:\n  {}\n", line.expect("a line for peers").trim())
}

fn callee(peers: &str, backend: SocketAddr) -> String {
    format!(
        "{peers}services:\n  echo: {{backends: [{backend}], allow: [osaka.example/collector]}}\n"
    )
}

fn caller(peers: &str, local: SocketAddr) -> String {
    format!(
        "{peers}workloads:\n  collector: {{selectors: [{}], uses: {{hokkaido.example/echo: {local}}}}}\n",
        own_uid()
    )
}

/// Two sites that have written each other's line, and run. Osaka calls Hokkaido's echo at the
/// address returned.
fn two_sites() -> (Site, Site, SocketAddr) {
    let (mut hokkaido, mut osaka, local) = two_files();
    hokkaido.start();
    osaka.start();
    hokkaido.wait_linked();
    osaka.wait_linked();
    (hokkaido, osaka, local)
}

fn two_files() -> (Site, Site, SocketAddr) {
    let (hokkaido, osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    let local = free_address();
    hokkaido.write(&callee(&line(&osaka), echo()));
    osaka.write(&caller(&line(&hokkaido), local));
    (hokkaido, osaka, local)
}

/// Waits until the peer's site root has this version, and gives what is known of the peer.
fn until_version(site: &Site, peer: &str, version: u64) -> Value {
    wait_for(&format!("{peer} has site root {version}"), SOON, || {
        let known = site.peer(peer);
        (known["identity"]["root_version"] == version && known["authorities"] != 0).then_some(known)
    })
}

/// Waits until the last fetch has failed with these words.
fn until_refused(site: &Site, peer: &str, words: &str) -> Value {
    wait_for(&format!("{peer} is refused: {words}"), SOON, || {
        let known = site.peer(peer);
        let error = known["last_error"].as_str().unwrap_or_default();
        error.contains(words).then_some(known)
    })
}

#[test]
fn the_identity_is_made_once_with_keys_for_the_owner_alone() {
    let site = Site::new("osaka");
    let first = identity(&site);
    assert_eq!(first["created"], true);
    assert_eq!(
        first["pin"], first["identity"],
        "version 1 needs no mention"
    );
    assert_eq!(first["gateway"], site.gateway.to_string());
    let keys = site.state().join("federation/root-keys");
    assert_eq!(lab::mode(&keys), 0o700);
    for name in ["root-1.pem", "recovery.pem"] {
        assert_eq!(lab::mode(&keys.join(name)), 0o600, "{name}");
    }
    let again = identity(&site);
    assert_eq!(again["identity"], first["identity"]);
    assert_eq!(again["created"], false);
    // The same in a federation.
    let joined = lab::federation::join(&site);
    assert_eq!(joined["identity"], first["identity"]);
    // A call that was interrupted before anybody knew the identity leaves keys behind.
    let other = Site::new("tokyo");
    let made = identity(&other);
    fs::remove_file(other.state().join("federation/root-1.json")).expect("removed");
    let again = identity(&other);
    assert_eq!(again["created"], true);
    assert_ne!(again["identity"], made["identity"], "another online key");
    let renew = run(other.command(&["federation", "root", "renew", "--output", "json"]));
    assert!(renew.status.success(), "{}", said(&renew));
    let pin = identity(&other)["pin"].as_str().expect("pin").to_owned();
    assert!(pin.ends_with("@2"), "{pin}");
}

#[test]
fn two_sites_exchange_one_line_each_in_either_order() {
    let (hokkaido, osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    let (mut hokkaido, mut osaka, local) = (hokkaido, osaka, free_address());
    // Hokkaido runs before anybody has an identity, and Osaka before Hokkaido knows of it.
    hokkaido.start();
    osaka.write(&caller(&line(&hokkaido), local));
    osaka.start();
    osaka.wait_linked();
    assert_unanswered(local);
    hokkaido.write(&callee(&line(&osaka), echo()));
    let applied = hokkaido.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    hokkaido.wait_linked();
    exchange_soon(local, b"linked");
    let known = osaka.peer("hokkaido.example");
    assert_eq!(known["profile"], "identity");
    assert_eq!(known["identity"]["root_version"], 1);
    assert_eq!(
        known["identity"]["identity"],
        identity(&hokkaido)["identity"]
    );
    assert!(known["identity"]["sequence"].as_u64() >= Some(1), "{known}");
    let shown = said(&run(osaka.command(&["status"])));
    assert!(shown.contains("site root 1"), "{shown}");
    osaka.logged("first contact with the peer by its identity");

    // The other order: the caller waits for a site that has not started yet.
    let (mut hokkaido, mut osaka, local) = two_files();
    osaka.start();
    until_refused(&osaka, "hokkaido.example", "cannot connect");
    hokkaido.start();
    osaka.wait_linked();
    hokkaido.wait_linked();
    exchange_soon(local, b"linked");
}

#[test]
fn an_outage_that_is_longer_than_the_life_of_a_ca_is_caught_up_without_people() {
    let (mut hokkaido, mut osaka, local) = two_files();
    // They run three days ago, and then no more.
    let past = Clock::Fixed("-3d");
    start_by(&mut hokkaido, past, free_address());
    start_by(&mut osaka, past, free_address());
    hokkaido.wait_linked();
    osaka.wait_linked();
    exchange_soon(local, b"before");
    let before = osaka.peer("hokkaido.example");
    for site in [&mut hokkaido, &mut osaka] {
        stop(site);
        restart_machine(site);
    }

    // Osaka is back alone. The CA that it knows of Hokkaido has expired two days ago.
    osaka.start();
    until_refused(&osaka, "hokkaido.example", "cannot connect");
    hokkaido.start();
    exchange_soon(local, b"after");
    let after = osaka.peer("hokkaido.example");
    assert_eq!(after["last_error"], Value::Null, "{after}");
    assert_ne!(after["bundle_end"], before["bundle_end"]);
}

/// Makes the site believe that its machine was off meanwhile: else its clock would be wrong.
fn restart_machine(site: &Site) {
    let program = "import sqlite3, sys\ndatabase = sqlite3.connect(sys.argv[1])\n\
                   database.execute(\"UPDATE clock SET boot_id = 'another'\")\ndatabase.commit()\n";
    let mut change = Command::new(python());
    change
        .args(["-c", program])
        .arg(site.state().join("renkei.db"));
    let done = run(&mut change);
    assert!(done.status.success(), "{}", said(&done));
}

#[test]
fn a_site_that_has_lost_its_ca_and_its_online_key_is_followed_by_its_next_site_root() {
    let (mut hokkaido, osaka, local) = two_sites();
    exchange_soon(local, b"before");
    let known = until_version(&osaka, "hokkaido.example", 1);
    stop(&mut hokkaido);
    let state = hokkaido.state();
    for name in ["renkei.db", "renkei.db-wal", "renkei.db-shm"] {
        let _ = fs::remove_file(state.join(name));
    }
    fs::remove_dir_all(state.join("keys")).expect("removed");
    let federation = state.join("federation");
    for entry in fs::read_dir(&federation).expect("folder").flatten() {
        let name = entry.file_name().into_string().expect("UTF-8");
        if name.starts_with("online-") || ["bundle.json", "made"].contains(&name.as_str()) {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
    let renew = ["federation", "root", "renew", "--new-online-key"];
    let renewed = run(hokkaido.command(&renew));
    assert!(renewed.status.success(), "{}", said(&renewed));
    hokkaido.start();
    let followed = until_version(&osaka, "hokkaido.example", 2);
    assert_ne!(followed["bundle_end"], known["bundle_end"]);
    exchange_soon(local, b"after");
}

#[test]
fn an_old_copy_of_a_site_is_refused_after_a_restart_too() {
    let (mut hokkaido, mut osaka, local) = two_sites();
    stop(&mut hokkaido);
    let (state, old) = (hokkaido.state(), hokkaido.path("old"));
    let copied = run(Command::new("cp").arg("-a").args([&state, &old]));
    assert!(copied.status.success(), "{}", said(&copied));
    let renewed = run(hokkaido.command(&["federation", "root", "renew"]));
    assert!(renewed.status.success(), "{}", said(&renewed));
    hokkaido.start();
    until_version(&osaka, "hokkaido.example", 2);
    exchange_soon(local, b"before");

    stop(&mut hokkaido);
    fs::rename(&state, hokkaido.path("new")).expect("renamed");
    fs::rename(&old, &state).expect("renamed");
    hokkaido.start();
    let words = "version 1 of its site root, and version 2 was seen before";
    let known = until_refused(&osaka, "hokkaido.example", words);
    assert_eq!(known["identity"]["root_version"], 2);
    osaka.logged(words);
    stop(&mut osaka);
    osaka.start();
    let known = until_refused(&osaka, "hokkaido.example", words);
    assert_eq!(known["identity"]["root_version"], 2);

    stop(&mut hokkaido);
    fs::remove_dir_all(&state).expect("removed");
    fs::rename(hokkaido.path("new"), &state).expect("renamed");
    hokkaido.start();
    wait_for("hokkaido.example is accepted again", SOON, || {
        osaka.peer("hokkaido.example")["last_error"]
            .is_null()
            .then_some(())
    });
    exchange_soon(local, b"after");
}

#[test]
fn a_man_in_the_middle_with_a_chain_of_his_own_gets_nothing() {
    let (hokkaido, mut osaka, local) = two_files();
    // The same name and address, and an identity of its own.
    static HEARD: AtomicUsize = AtomicUsize::new(0);
    let listens = serve(|mut stream| {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            HEARD.fetch_add(count, Ordering::SeqCst);
        }
    });
    let mut impostor = Site::new("hokkaido");
    impostor.gateway = hokkaido.gateway;
    impostor.write(&callee(&line(&osaka), listens));
    let stranger = identity(&impostor)["identity"]
        .as_str()
        .expect("identity")
        .to_owned();
    impostor.start();
    osaka.start();
    let known = until_refused(&osaka, "hokkaido.example", &stranger);
    assert_eq!(known["authorities"], 0);
    let pinned = identity(&hokkaido)["identity"]
        .as_str()
        .expect("identity")
        .to_owned();
    let error = known["last_error"].as_str().expect("error");
    assert!(error.contains(&pinned), "{error}");
    let got = exchange(local, b"secret");
    assert!(got.as_ref().map_or(true, Vec::is_empty), "{got:?}");
    assert_eq!(HEARD.load(Ordering::SeqCst), 0);
}
