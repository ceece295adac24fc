//! The Workload API of a running site, as its workloads know it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{fmt::Write, net::SocketAddr, path::Path, process::Command};

use lab::{
    SOON, Site, callee, echo, exchange, exchange_soon, foreign::stdout_of, mode, own_uid, renkei,
    run, said,
};
use renkei_testkit::{Child, free_address, python, wait_for};
use serde_json::Value;

/// The rest of a site file with workloads that every process of this user is.
fn workloads(names: &[&str]) -> String {
    let mut text = "workloads:\n".to_owned();
    for name in names {
        let _ = writeln!(text, "  {name}: {{selectors: [{}]}}", own_uid());
    }
    text
}

/// The site `osaka` with those workloads, running.
fn osaka(names: &[&str]) -> Site {
    let mut site = Site::new("osaka");
    site.write(&workloads(names));
    site.start();
    site
}

fn endpoint(site: &Site) -> String {
    format!("unix://{}", site.workload_socket().display())
}

fn svid_show(endpoint: &str) -> Command {
    let mut command = renkei();
    command.args(["svid", "show", "--socket", endpoint, "--output", "json"]);
    command
}

#[test]
fn svid_show_tells_every_identity_of_the_process() {
    let site = osaka(&["collector", "relay"]);
    let shown = stdout_of(&mut svid_show(&endpoint(&site)));
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let ids: Vec<&Value> = shown["svids"]
        .as_array()
        .expect("SVIDs")
        .iter()
        .map(|svid| &svid["id"])
        .collect();
    assert_eq!(
        ids,
        [
            "spiffe://osaka.example/collector",
            "spiffe://osaka.example/relay"
        ]
    );
    assert_eq!(shown["trust_domains"], serde_json::json!(["osaka.example"]));
    let mut text = renkei();
    text.args(["svid", "show"])
        .env("SPIFFE_ENDPOINT_SOCKET", endpoint(&site));
    let text = stdout_of(&mut text);
    assert!(text.contains("spiffe://osaka.example/relay"), "{text}");
}

#[test]
fn svid_show_writes_files_that_openssl_verifies_and_only_the_owner_reads() {
    let site = osaka(&["collector"]);
    let folder = site.path("files");
    let mut show = svid_show(&endpoint(&site));
    stdout_of(show.arg("--write").arg(&folder));
    for name in ["svid.pem", "key.pem", "bundle.pem"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    let openssl = |words: &[&str]| {
        let mut command = Command::new("openssl");
        stdout_of(command.args(words).current_dir(&folder))
    };
    let verified = openssl(&[
        "verify",
        "-x509_strict",
        "-CAfile",
        "bundle.pem",
        "svid.pem",
    ]);
    assert_eq!(verified.trim(), "svid.pem: OK");
    let names = openssl(&[
        "x509",
        "-in",
        "svid.pem",
        "-noout",
        "-ext",
        "subjectAltName",
    ]);
    assert!(
        names.contains("URI:spiffe://osaka.example/collector"),
        "{names}"
    );
    assert_eq!(
        openssl(&["x509", "-in", "svid.pem", "-noout", "-pubkey"]),
        openssl(&["pkey", "-in", "key.pem", "-pubout"])
    );
}

const FETCH: &str = r#"
import sys
from spiffe import WorkloadApiClient, TrustDomain
with WorkloadApiClient(socket_path=sys.argv[1]) as client:
    svid = client.fetch_x509_svid(timeout=20)
    bundle = client.fetch_x509_bundles(timeout=20).get_bundle_for_trust_domain(
        TrustDomain("osaka.example"))
    print(svid.spiffe_id, len(svid.cert_chain), len(bundle.x509_authorities))
"#;

#[test]
fn the_python_client_fetches_its_svid() {
    let site = osaka(&["collector"]);
    let mut client = Command::new(python());
    let told = stdout_of(client.args(["-c", FETCH, &endpoint(&site)]));
    assert_eq!(told.trim(), "spiffe://osaka.example/collector 1 1");
}

#[test]
fn a_process_that_is_no_workload_is_told_so() {
    let mut site = Site::new("osaka");
    site.write("workloads:\n  collector: {selectors: [unix:uid:4242]}\n");
    site.start();
    let shown = run(&mut svid_show(&endpoint(&site)));
    assert_eq!(shown.status.code(), Some(1));
    let text = unwrapped(&said(&shown));
    for words in [
        "PermissionDenied",
        "no identity issued",
        "must match the selectors",
    ] {
        assert!(text.contains(words), "no {words:?} in:\n{text}");
    }
    // What the workloads of the site are is not for strangers.
    assert!(
        !text.contains("uid:4242") && !text.contains("collector"),
        "{text}"
    );
    let mut client = Command::new(python());
    let refused = run(client.args(["-c", FETCH, &endpoint(&site)]));
    assert!(!refused.status.success());
    assert!(
        said(&refused).contains("no identity issued"),
        "{}",
        said(&refused)
    );
    // The log says what was asked for.
    site.logged("collector: ");
}

/// An error message without the line breaks that fit it to the terminal.
fn unwrapped(text: &str) -> String {
    let words = text.split_whitespace().filter(|word| *word != "│");
    words.collect::<Vec<_>>().join(" ")
}

const STREAM: &str = r#"
import sys, time
from spiffe import WorkloadApiClient
def update(context):
    print("now:", *sorted(svid.spiffe_id.path for svid in context.x509_svids), flush=True)
with WorkloadApiClient(socket_path=sys.argv[1]) as client:
    client.stream_x509_contexts(update, lambda error: print("error:", error, flush=True))
    while True:
        time.sleep(60)
"#;

#[test]
fn a_workload_added_to_the_file_reaches_an_open_stream() {
    let site = osaka(&["collector"]);
    let mut client = Command::new(python());
    let client = Child::start("client", client.args(["-c", STREAM, &endpoint(&site)]));
    let told = |words: &str| {
        wait_for(words, SOON, || {
            let output = client.output();
            assert!(!output.contains("error:"), "{output}");
            output.lines().any(|line| line == words).then_some(())
        });
    };
    told("now: /collector");
    site.write(&workloads(&["collector", "relay"]));
    let applied = site.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    told("now: /collector /relay");
    site.write(&workloads(&["relay"]));
    assert!(site.apply().status.success());
    told("now: /relay");
}

/// The rest of a site file whose workload `name` uses Hokkaido's `echo`.
fn user_of_echo(site: &Site, hokkaido: &Site, name: &str, local: SocketAddr) -> String {
    let peers = site.peers(&[hokkaido]);
    let selectors = own_uid();
    format!(
        "{peers}workloads:\n  {name}: {{selectors: [{selectors}], uses: {{hokkaido.example/echo: \
         {local}}}}}\n"
    )
}

/// A second process of the trust domain `osaka.example`, without an authority of its own.
fn edge(hokkaido: &Site, api: &str, local: SocketAddr) -> Site {
    let mut edge = Site::new("osaka-edge");
    let rest = user_of_echo(&edge, hokkaido, "collector", local);
    let text = format!("site: osaka-edge\ntrust_domain: osaka.example\n{rest}");
    std::fs::write(edge.file(), text).expect("site file");
    edge.start_with(&["--workload-api", api]);
    edge
}

#[test]
fn a_second_process_proxies_with_the_identities_of_the_first() {
    let (mut hokkaido, mut osaka) = (Site::new("hokkaido"), Site::renewing("osaka"));
    hokkaido.write(&callee(&hokkaido, &osaka, echo()));
    let peers = osaka.peers(&[&hokkaido]);
    osaka.write(&(peers + &workloads(&["collector", "relay"])));
    hokkaido.start();
    osaka.start();
    hokkaido.wait_linked();
    osaka.wait_linked();
    let local = free_address();
    let edge = edge(&hokkaido, &endpoint(&osaka), local);
    exchange_soon(local, b"through the second process");
    let status = hokkaido.status();
    let total = &status["proxy"]["totals"][0];
    assert_eq!(total["caller"], "spiffe://osaka.example/collector");
    assert!(
        !holds_a_key(&edge.state()),
        "it has no authority and keeps no key"
    );
    let seen = edge.status();
    assert_eq!(seen["workload_api"]["status"]["connected"], true, "{seen}");
    let serial = || stdout_of(&mut svid_show(&endpoint(&osaka)));
    let before = serial();
    wait_for("a renewal", SOON, || (serial() != before).then_some(()));
    assert_eq!(exchange(local, b"renewed").expect("echo"), b"renewed");
}

/// Whether a folder holds a file of keys or a database.
fn holds_a_key(folder: &Path) -> bool {
    folder.join("keys").exists() || folder.join("renkei.db").exists()
}
