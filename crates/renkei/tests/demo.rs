//! The demo from outside: what it promises on its last line holds, a site may die in the middle of
//! it, and nothing outlives it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{path::Path, process::Command, sync::Mutex};

use lab::{SOON, renkei, run, said};
use renkei_testkit::{Child, Kafka, program, python, wait_for};
use serde_json::{Value, json};

/// One demo at a time: each keeps a small machine busy.
static TURN: Mutex<()> = Mutex::new(());

fn demo(folder: &Path, options: &[&str]) -> Command {
    let mut demo = renkei();
    demo.arg("demo")
        .arg("--keep")
        .arg(folder)
        .arg("--python")
        .arg(python());
    demo.arg("--kafka")
        .arg(program("RENKEI_KAFKA"))
        .arg("--java")
        .arg(program("RENKEI_JAVA"));
    demo.args(["--svid-life", "6s"]).args(options);
    demo
}

fn play(options: &[&str]) -> Value {
    let _turn = TURN.lock();
    let folder = tempfile::tempdir().expect("folder");
    let played = run(demo(folder.path(), &["--output", "json"]).args(options));
    assert!(played.status.success(), "{options:?}:\n{}", said(&played));
    serde_json::from_slice(&played.stdout).expect("JSON")
}

/// The command lines of processes that name the folder.
fn left_behind(folder: &Path) -> Vec<String> {
    let name = folder.display().to_string();
    std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&name))
        .collect()
}

#[test]
fn every_record_arrives_and_every_intruder_is_refused() {
    // Shorter than the last intruder has to wait: it must be reported all the same.
    let report = play(&["--seconds", "5"]);
    assert_eq!(report["sites"], 4);
    assert_eq!(report["lost"], 0);
    assert_eq!(report["corrupted"], 0);
    assert_eq!(report["delivered"], report["sent"]);
    assert!(
        report["config_lines"]
            .as_u64()
            .is_some_and(|lines| lines <= 40),
        "{report}"
    );
    assert!(
        report["renewals_of_each"].as_u64().is_some_and(|n| n >= 2),
        "{report}"
    );
    for intruder in [
        "fifth_site",
        "osaka_to_tokyo",
        "plaintext",
        "wrong_ca",
        "expired",
    ] {
        assert!(
            report["refused"][intruder].as_u64().is_some_and(|n| n > 0),
            "{intruder}: {report}"
        );
    }
    assert_eq!(report["attempts"].as_array().map(Vec::len), Some(6));
    // Each identity is on its node, and none at the gateway.
    let nodes = json!([
        {"name": "hokkaido", "role": "server and gateway", "runs": []},
        {"name": "store", "role": "node without an inbound port", "runs": ["broker"]},
        {"name": "compute", "role": "node without a route outside", "runs": ["forwarder"]},
    ]);
    assert_eq!(report["nodes"], nodes);
    if rustix::process::geteuid().is_root() {
        assert!(
            report["refused"]["other_user"]
                .as_u64()
                .is_some_and(|n| n > 0),
            "{report}"
        );
    }
}

#[test]
fn any_one_site_may_be_killed_and_come_back() {
    let mut options = vec!["--seconds", "40"];
    for site in ["hokkaido", "tokyo", "osaka", "kyushu"] {
        options.extend(["--kill", site]);
    }
    let report = play(&options);
    assert_eq!(report["lost"], 0, "{report}");
    let killed = report["killed"].as_array().map(Vec::len);
    assert_eq!(killed, Some(4), "{report}");
}

#[test]
fn an_interrupted_demo_leaves_nothing_running() {
    let _turn = TURN.lock();
    for signal in ["INT", "TERM", "KILL"] {
        let folder = tempfile::tempdir().expect("folder");
        let mut demo = Child::start("demo", &mut demo(folder.path(), &["--seconds", "60"]));
        wait_for("the pipeline runs", 2 * SOON, || {
            folder.path().join("tokyo-reader").exists().then_some(())
        });
        demo.signal(signal);
        let status = demo.wait(SOON);
        assert!(!status.success());
        wait_for("everything has ended", SOON, || {
            left_behind(folder.path()).is_empty().then_some(())
        });
    }
}

#[test]
fn a_missing_broker_is_named_with_a_way_out() {
    let no_jars = tempfile::tempdir().expect("folder");
    for (kafka, part) in [
        (None, "--kafka names no folder"),
        (Some(no_jars.path()), "kafka.Kafka"),
    ] {
        let mut demo = renkei();
        demo.env_remove("RENKEI_KAFKA")
            .args(["demo", "--python"])
            .arg(python())
            .arg("--java")
            .arg(program("RENKEI_JAVA"));
        if let Some(folder) = kafka {
            demo.arg("--kafka").arg(folder);
        }
        let ended = run(&mut demo);
        assert_eq!(ended.status.code(), Some(1));
        for part in [part, "--broker HOST:PORT", "scripts/demo"] {
            assert!(said(&ended).contains(part), "{part}: {}", said(&ended));
        }
    }
}

#[test]
fn a_wrong_option_is_refused_before_anything_starts() {
    for (options, code, part) in [
        (&["--broker", "nonsense"][..], 2, "HOST:PORT"),
        (&["--svid-life", "1s"], 2, "from 5s to 5m"),
        (
            &["--broker", "a:1", "--broker", "b:2", "--broker", "c:3"],
            1,
            "--broker is given 3 times",
        ),
    ] {
        let ended = run(renkei().arg("demo").args(options));
        assert_eq!(ended.status.code(), Some(code), "{}", said(&ended));
        assert!(said(&ended).contains(part), "{}", said(&ended));
    }
}

#[test]
fn the_last_words_of_a_broker_that_ends_are_shown() {
    use std::os::unix::fs::PermissionsExt;
    let _turn = TURN.lock();
    let folder = tempfile::tempdir().expect("folder");
    let java = folder.path().join("java");
    let program = "#!/bin/sh\ncase \"$*\" in *--version|*format*) exit 0;; esac\n\
                   echo no room for the log\nexit 3\n";
    std::fs::write(&java, program).expect("program");
    std::fs::set_permissions(&java, std::fs::Permissions::from_mode(0o755)).expect("mode");
    let mut demo = renkei();
    demo.args(["demo", "--python"]).arg(python());
    demo.arg("--kafka").arg(folder.path());
    let ended = run(demo.arg("--java").arg(&java));
    assert_eq!(ended.status.code(), Some(1));
    for part in [
        "hokkaido's broker ended: exit status: 3",
        "no room for the log",
    ] {
        assert!(
            said(&ended).contains(part),
            "no {part:?} in:\n{}",
            said(&ended)
        );
    }
}

#[test]
fn a_broker_of_the_users_own_serves_both_sites() {
    let kafka = Kafka::start(1);
    let address = kafka.address(1);
    let report = play(&["--seconds", "5", "--broker", &address.to_string()]);
    assert_eq!(report["delivered"], report["sent"], "{report}");
    let still = std::net::TcpStream::connect(address);
    assert!(still.is_ok(), "it is not the demo's to end");
}
