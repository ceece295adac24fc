//! Files that never answer: a FIFO in the place of every file that a site reads. The site says so,
//! and goes on.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use lab::{SOON, Site, caller, echo, exchange_soon, foreign::Foreign, renkei, run, said};
use renkei_spiffe::{Bundle, TrustDomain};
use renkei_testkit::{Child, TestAuthority, free_address, wait_for};
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// Puts a FIFO whose other end nobody opens in the place of a file.
fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    mknodat(CWD, path, FileType::Fifo, Mode::from(0o600), 0).expect("a FIFO");
}

/// Runs a command that must come to an end, and gives its exit status and what it said.
fn ends(command: &mut Command) -> (Option<i32>, String) {
    let mut child = Child::start("renkei", command.stderr(Stdio::piped()));
    let status = child.wait(SOON);
    (status.code(), child.output())
}

fn refused(command: &mut Command, file: &str) {
    let (code, text) = ends(command);
    assert!(matches!(code, Some(1 | 2)), "{code:?}: {text}");
    // Lines are broken to the width of the terminal, behind a margin.
    let words = text.split_whitespace().filter(|word| *word != "│");
    let text = words.collect::<Vec<_>>().join(" ");
    assert!(text.contains("it is a FIFO"), "{text}");
    assert!(text.contains(file), "{text}");
}

#[test]
fn commands_refuse_a_fifo_in_the_place_of_any_file() {
    let site = Site::new("osaka");
    let check = || {
        let mut check = renkei();
        check.arg("check").arg(site.file());
        check
    };
    site.write("services:\n  echo: {backends: [127.0.0.1:9], policy: echo.rego}\n");
    fifo(&site.path("echo.rego"));
    refused(&mut check(), "echo.rego");

    site.write("federation: federation.yaml\n");
    fifo(&site.path("federation.yaml"));
    refused(&mut check(), "federation.yaml");
    let mut submit = renkei();
    submit.args(["federation", "submit"]);
    refused(
        submit.arg(site.path("federation.yaml")).arg("x"),
        "federation.yaml",
    );

    fifo(&site.file());
    refused(&mut check(), "site.yaml");
    for words in [&["up"][..], &["bundle", "show"], &["apply"], &["status"]] {
        let (code, text) = ends(site.command(words));
        assert!(matches!(code, Some(1 | 2)), "{words:?}: {code:?}: {text}");
    }
}

#[test]
fn a_start_with_a_fifo_in_its_state_folder_says_so_and_ends() {
    for name in [
        "renkei.db",
        "renkei.lock",
        "renkei.db-wal",
        "control.sock.lock",
    ] {
        let site = Site::new("osaka");
        site.own_bundle();
        fifo(&site.state().join(name));
        let mut up = renkei();
        up.arg("up").arg(site.file()).args(["--admin", "none"]);
        refused(up.arg("--state").arg(site.state()), name);
    }
    let site = Site::new("osaka");
    site.own_bundle();
    let keys = fs::read_dir(site.state().join("keys")).expect("keys");
    let key = keys.flatten().next().expect("a key").path();
    fifo(&key);
    let mut up = renkei();
    up.arg("up").arg(site.file()).args(["--admin", "none"]);
    refused(up.arg("--state").arg(site.state()), ".pem");
}

/// A site that uses a service of its own, a peer by a bundle file, one by a bootstrap file, one by
/// https_web with roots of its own, a policy and an https_web endpoint.
fn site_of_files() -> (Site, std::net::SocketAddr) {
    let site = Site::renewing("osaka");
    let (local, web) = (free_address(), free_address());
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=osaka", "-keyout"])
        .arg(site.path("web.key"))
        .arg("-out")
        .arg(site.path("web.pem"))
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{}", said(&made));
    for name in ["file.json", "bootstrap.json"] {
        fs::write(site.path(name), site.own_bundle()).expect("bundle");
    }
    let rego = "package renkei.authz\nimport rego.v1\nallow if true\n";
    fs::write(site.path("echo.rego"), rego).expect("policy");
    site.write(&format!(
        "bundle_endpoint: {{listen: {web}, certificate: web.pem, key: web.key}}\n\
         peers:\n  one.example: {{bundle: file.json}}\n  \
         two.example: {{bundle: 'https://127.0.0.1:9/', bootstrap: bootstrap.json}}\n  \
         three.example: {{bundle: 'https://127.0.0.1:9/', web_roots: web.pem}}\n\
         services:\n  echo: {{backends: [{}], policy: echo.rego}}\n\
         workloads:\n  collector: {{selectors: [{}], uses: {{osaka.example/echo: {local}}}}}\n",
        echo(),
        lab::own_uid()
    ));
    (site, local)
}

#[test]
fn a_site_goes_on_when_its_files_become_fifos() {
    let (mut site, local) = site_of_files();
    site.start();
    exchange_soon(local, b"before");
    let text = fs::read_to_string(site.file()).expect("site file");
    for name in [
        "file.json",
        "bootstrap.json",
        "web.pem",
        "web.key",
        "echo.rego",
    ] {
        fifo(&site.path(name));
    }
    let error_of = |peer: &str| {
        wait_for("the peer's error", SOON, || {
            let status = site.status();
            let peers = status["server"]["peers"].as_array().cloned()?;
            let it = peers.into_iter().find(|it| it["trust_domain"] == peer)?;
            let error = it["last_error"].as_str()?.to_owned();
            error.contains("it is a FIFO").then_some(error)
        })
    };
    error_of("one.example");
    error_of("three.example");
    // The certificate is looked at with every connection.
    let web = text
        .split("listen: ")
        .nth(2)
        .and_then(|rest| rest.split(',').next());
    for _ in 0..3 {
        let address = web.expect("the endpoint's address");
        drop(std::net::TcpStream::connect(address).expect("connected"));
    }
    refused(site.command(&["apply"]), "echo.rego");
    fifo(&site.file());
    site.process.as_ref().expect("it runs").signal("HUP");
    wait_for("the reload is refused", SOON, || {
        let log = site.process.as_mut()?.output();
        log.contains("site.yaml: it is a FIFO").then_some(())
    });
    let before = site.status()["agent"]["renewals"].clone();
    wait_for("SVIDs are renewed", SOON, || {
        (site.status()["agent"]["renewals"] != before).then_some(())
    });
    exchange_soon(local, b"after");
}

#[test]
fn a_mirror_of_fifos_is_a_fault_of_that_mirror() {
    let mut site = Site::new("osaka");
    let mut join = renkei();
    join.args(["federation", "join"]).arg(site.file());
    join.arg("--state").arg(site.state()).arg("--root-keys");
    let joined = run(join.arg(site.path("root")).args(["--output", "json"]));
    assert!(joined.status.success(), "{}", said(&joined));
    let joined: serde_json::Value = serde_json::from_slice(&joined.stdout).expect("JSON");
    let key = joined["witness_key"].as_str().expect("key");
    let witness = format!("osaka.example={key}");
    let made = renkei()
        .args(["federation", "init"])
        .arg(site.path("federation.yaml"))
        .args(["--name", "test", "--origin", "test.example/log", "--keys"])
        .arg(site.path("keys"))
        .arg("--mirror")
        .arg(site.path("mirror"))
        .args(["--witness", &witness])
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", said(&made));
    fs::create_dir(site.path("mirror")).expect("folder");
    for name in ["checkpoint", "pending"] {
        fifo(&site.path("mirror").join(name));
    }
    let (other, local) = (Site::new("kyoto"), free_address());
    site.write(&format!(
        "federation: federation.yaml\n{}",
        caller(&site, &other, local)
    ));
    site.start();
    wait_for("the mirror's fault", SOON, || {
        let status = site.status();
        let fault = status["server"]["federation"]["mirrors"][0]["fault"].clone();
        fault.as_str()?.contains("it is a FIFO").then_some(())
    });
    assert_eq!(site.status()["ready"], true);
}

/// A bundle without a refresh hint is otherwise read again after five minutes.
#[test]
fn an_apply_and_a_hangup_read_a_bundle_file_again_though_the_site_file_is_the_same() {
    let foreign = Foreign::new("spire.example");
    let mut site = Site::new("osaka");
    site.write(&foreign.peers(None));
    site.start();
    site.wait_linked();
    let write = |authorities: u64| {
        let name = TrustDomain::parse("spire.example").expect("trust domain");
        let mut bundle = Bundle::empty(name);
        let more = (0..authorities).map(|_| TestAuthority::new("spire.example").certificate());
        bundle.x509_authorities.extend(more);
        bundle.sequence = Some(authorities);
        fs::write(foreign.path("bundle.json"), bundle.to_document()).expect("bundle");
    };
    let shows = |site: &Site, authorities: u64| {
        wait_for("the new bundle is in use", SOON, || {
            (site.peer("spire.example")["authorities"] == authorities).then_some(())
        });
    };
    write(2);
    let applied = site.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    shows(&site, 2);
    write(3);
    site.process().signal("HUP");
    shows(&site, 3);
}
