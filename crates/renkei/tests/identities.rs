//! Identities as the site file chooses them: IDs with several segments, hints, defaults, and what
//! clients of the Workload API may take up.

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
    time::Duration,
};

use lab::{SOON, Site, echo, exchange_soon, foreign::stdout_of, own_uid, renkei, run, said, serve};
use renkei_testkit::{free_address, wait_for};
use serde_json::Value;

/// An HTTP server that answers with the name of its caller.
fn names_its_caller() -> SocketAddr {
    serve(|mut stream| {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let caller = head
            .lines()
            .find_map(|line| line.strip_prefix("x-renkei-peer: "));
        let caller = caller.unwrap_or("nobody");
        let length = caller.len();
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{caller}"
        );
    })
}

fn get(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(b"GET /v1/records HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")?;
    let mut got = String::new();
    stream.read_to_string(&mut got)?;
    Ok(got)
}

#[test]
fn ids_with_several_segments_are_callers_and_services_of_both_sites() {
    let (mut hokkaido, mut osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    let [store, web, own] = [free_address(), free_address(), free_address()];
    let (uid, echo, http) = (own_uid(), echo(), names_its_caller());
    hokkaido.write(&format!(
        "{}services:\n  store:\n    id: /ns/prod/sa/Store\n    backends: [{echo}]\n    \
         allow: [osaka.example/ns/prod/sa/client, near]\n  web:\n    \
         id: spiffe://hokkaido.example/ns/prod/sa/web\n    protocol: http\n    \
         backends: [{http}]\n    allow: [osaka.example/ns/prod/sa/client]\n    \
         methods: {{osaka.example/ns/prod/sa/client: [GET /v1/*]}}\nworkloads:\n  near:\n    \
         id: /ns/prod/sa/near\n    selectors: [{uid}]\n    uses: {{store: {own}}}\n",
        hokkaido.peers(&[&osaka])
    ));
    osaka.write(&format!(
        "{}workloads:\n  client:\n    id: /ns/prod/sa/client\n    selectors: [{uid}]\n    \
         uses:\n      hokkaido.example/ns/prod/sa/Store: {store}\n      \
         hokkaido.example/ns/prod/sa/web: {web}\n",
        osaka.peers(&[&hokkaido])
    ));
    hokkaido.start();
    osaka.start();
    hokkaido.wait_linked();
    osaka.wait_linked();
    exchange_soon(store, b"from the other site");
    exchange_soon(own, b"from the same site, by its name");
    let answer = wait_for("an HTTP answer", SOON, || {
        get(web).ok().filter(|answer| answer.contains("200 OK"))
    });
    let caller = "spiffe://osaka.example/ns/prod/sa/client";
    assert!(answer.ends_with(caller), "{answer}");
    // In words.
    let explain = |site: &Site, caller: &str, service: &str| {
        let mut command = renkei();
        command.args(["explain", caller, service, "--site"]);
        command.arg(site.file()).arg("--state").arg(site.state());
        said(&run(&mut command))
    };
    let words = explain(&hokkaido, "near", "store");
    let sentence = "hokkaido.example/ns/prod/sa/near may reach hokkaido.example/ns/prod/sa/Store";
    assert!(words.contains(sentence), "{words}");
    assert!(words.contains("the server name id-"), "{words}");
    let words = explain(&osaka, "client", "hokkaido.example/ns/prod/sa/web");
    assert!(words.contains("this site allows"), "{words}");
}

fn shown(site: &Site) -> Vec<(String, String)> {
    let mut show = renkei();
    show.args(["svid", "show", "--output", "json", "--socket"]);
    show.arg(site.workload_socket());
    let shown: Value = serde_json::from_str(&stdout_of(&mut show)).expect("JSON");
    let svids = shown["svids"].as_array().expect("SVIDs").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    svids
        .map(|svid| (text(&svid["id"]), text(&svid["hint"])))
        .collect()
}

#[test]
fn the_default_identity_and_the_hints_are_those_of_the_site_file() {
    let mut site = Site::new("osaka");
    let uid = own_uid();
    site.write(&format!(
        "workloads:\n  ant: {{selectors: [{uid}]}}\n  bee: {{selectors: [{uid}], hint: internal}}\n  \
         cat: {{selectors: [{uid}], default: true, id: /ns/prod/sa/cat}}\n"
    ));
    site.start();
    let pair = |id: &str, hint: &str| (format!("spiffe://osaka.example/{id}"), hint.to_owned());
    let (ant, bee) = (pair("ant", "ant"), pair("bee", "internal"));
    let cat = pair("ns/prod/sa/cat", "cat");
    assert_eq!(shown(&site), [cat.clone(), ant.clone(), bee]);
    // Another default acts at once, and the entries are those of the file after a restart too.
    site.write(&format!(
        "workloads:\n  ant: {{selectors: [{uid}]}}\n  bee: {{selectors: [{uid}], default: true}}\n  \
         cat: {{selectors: [{uid}], id: /ns/prod/sa/cat}}\n"
    ));
    let applied = site.apply();
    let words = said(&applied);
    assert!(words.contains("workload bee (hint, default)"), "{words}");
    assert!(words.contains("workload cat (default)"), "{words}");
    let now = [pair("bee", "bee"), ant, cat];
    wait_for("another default", SOON, || {
        (shown(&site) == now).then_some(())
    });
    site.process = None;
    site.start();
    assert_eq!(shown(&site), now);
}

#[test]
fn the_limits_of_the_workload_api_are_settings_and_their_excess_is_told() {
    let mut site = Site::new("osaka");
    let workload = format!("workloads:\n  ant: {{selectors: [{}]}}\n", own_uid());
    site.write(&format!(
        "workload_api: {{connections_per_user: 2}}\n{workload}"
    ));
    site.start();
    let connect = || UnixStream::connect(site.workload_socket()).expect("connected");
    let held = [connect(), connect()];
    let mut show = renkei();
    show.args(["svid", "show", "--socket"])
        .arg(site.workload_socket());
    let words = said(&run(&mut show));
    assert!(words.contains("ResourceExhausted"), "{words}");
    let denied = &site.status()["agent"]["denials"]["too_many_connections"];
    assert_eq!(*denied, 1);
    drop(held);
    wait_for("a place is free", SOON, || {
        run(&mut show).status.success().then_some(())
    });
    // They are set at the start.
    site.write(&format!(
        "workload_api: {{connections_per_user: 3}}\n{workload}"
    ));
    let applied = site.apply();
    assert!(!applied.status.success());
    let words = said(&applied);
    assert!(words.contains("gets its limits once"), "{words}");
}
