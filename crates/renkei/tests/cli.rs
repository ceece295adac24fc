//! The command line without a running site: help, checks, faults, explanations.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use lab::{Site, renkei, run, said};

const REST: &str = "peers:
  hokkaido.example: {bundle: hokkaido.json, gateway: 127.0.0.1:18443}
services:
  archive: {backends: [127.0.0.1:9], allow: [hokkaido.example/reader]}
workloads:
  collector: {selectors: [unix:user:sensor], uses: {hokkaido.example/broker: 127.0.0.1:19092}}
";

#[test]
fn help_shows_a_first_site() {
    let help = said(&run(renkei().arg("--help")));
    for line in [
        "renkei check site.yaml",
        "renkei up site.yaml",
        "renkei explain A B",
        "Exit status",
    ] {
        assert!(help.contains(line), "no {line:?} in:\n{help}");
    }
    for command in [
        "up",
        "check",
        "apply",
        "status",
        "explain",
        "svid",
        "bundle",
        "federation",
        "registry",
        "render",
        "demo",
        "completions",
    ] {
        let help = run(renkei().args([command, "--help"]));
        assert!(help.status.success(), "{command}: {}", said(&help));
    }
}

/// A bundle document whose one CA expires after so many hours, or expired before.
fn bundle_until(hours: i64) -> String {
    let now = time::OffsetDateTime::now_utc();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.not_after = now + time::Duration::hours(hours);
    params.not_before = params.not_after - time::Duration::days(1);
    let key = rcgen::KeyPair::generate().expect("key");
    let certificate = params.self_signed(&key).expect("certificate");
    let name = renkei_spiffe::TrustDomain::parse("hokkaido.example").expect("a name");
    let mut bundle = renkei_spiffe::Bundle::empty(name);
    bundle.x509_authorities.push(certificate.into());
    bundle.to_document()
}

#[test]
fn a_bundle_file_that_expires_soon_is_warned_of() {
    let site = Site::new("osaka");
    let bootstrap = "peers:
  hokkaido.example: {bundle: https://127.0.0.1:18443/, bootstrap: hokkaido.json}
";
    for (rest, words) in [
        (REST, "connections with"),
        (bootstrap, "before the first start"),
    ] {
        site.write(rest);
        for (hours, says) in [
            (-1, Some("expired at")),
            (3, Some("expires in")),
            (20, None),
        ] {
            std::fs::write(site.path("hokkaido.json"), bundle_until(hours)).expect("bundle");
            let checked = run(renkei().arg("check").arg(site.file()));
            assert!(checked.status.success(), "{}", said(&checked));
            let warned = String::from_utf8_lossy(&checked.stderr);
            let expected = says.is_some_and(|says| warned.contains(says) && warned.contains(words));
            assert_eq!(expected, says.is_some(), "{hours}: {warned}");
        }
        let json = run(renkei()
            .args(["check", "--output", "json"])
            .arg(site.file()));
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(json["bundle_files"][0]["trust_domain"], "hokkaido.example");
    }
}

#[test]
fn a_bundle_file_that_holds_no_bundle_is_warned_of() {
    let site = Site::new("osaka");
    site.write(REST);
    let file = site.path("hokkaido.json");
    for (text, says) in [
        (None, "No such file"),
        (Some(""), "cannot be used"),
        (Some("-----BEGIN CERTIFICATE-----"), "cannot be used"),
        (Some("{\"keys\": []}"), "it has no CA"),
    ] {
        match text {
            Some(text) => std::fs::write(&file, text).expect("written"),
            None => assert!(!file.exists()),
        }
        let checked = run(renkei().arg("check").arg(site.file()));
        let words = said(&checked);
        let warned = words.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(checked.status.success(), "{warned}");
        assert!(
            warned.contains(says) && warned.contains("hokkaido.json"),
            "{text:?}: {warned}"
        );
    }
}

#[test]
fn a_good_file_is_summed_up() {
    let site = Site::new("osaka");
    site.write(REST);
    let checked = run(renkei().arg("check").arg(site.file()));
    assert!(checked.status.success(), "{}", said(&checked));
    let text = said(&checked);
    for part in [
        "osaka.example/archive",
        "hokkaido.example/reader",
        "127.0.0.1:19092",
        "unix:user:sensor",
    ] {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
    let json = run(renkei()
        .args(["check", "--output", "json"])
        .arg(site.file()));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["ok"], true);
    for (place, value) in [
        (
            "/services/archive/allow/0",
            "spiffe://hokkaido.example/reader",
        ),
        ("/workloads/collector/uses/0/listen", "127.0.0.1:19092"),
        ("/peers/hokkaido.example/gateway", "127.0.0.1:18443"),
    ] {
        assert_eq!(json.pointer(place).expect(place), value, "{json}");
    }
}

#[test]
fn every_fault_comes_at_once_with_its_place_and_status_2() {
    let site = Site::new("osaka");
    site.write(
        "services:\n  archive: {backend: [127.0.0.1:9], policy: none.rego}\nadmin: 0.0.0.0:1\n",
    );
    let checked = run(renkei()
        .args(["check", "--output", "json"])
        .arg(site.file()));
    assert_eq!(checked.status.code(), Some(2));
    let answer: serde_json::Value = serde_json::from_slice(&checked.stdout).expect("JSON");
    let faults = answer["faults"].as_array().expect("faults");
    assert!(faults.len() >= 2, "{answer}");
    for fault in faults {
        assert!(
            fault["line"].as_u64().is_some_and(|line| line >= 5),
            "{fault}"
        );
        assert_ne!(fault["hint"], "", "{fault}");
    }
    let shown = run(renkei()
        .arg("up")
        .arg(site.file())
        .arg("--state")
        .arg(site.state()));
    assert_eq!(
        shown.status.code(),
        Some(2),
        "nothing starts: {}",
        said(&shown)
    );
    assert!(said(&shown).contains("backend"), "{}", said(&shown));
    assert!(!site.state().exists(), "a faulty file makes no state");
}

#[test]
fn a_missing_site_file_is_named() {
    let checked = run(renkei().args(["check", "nowhere.yaml"]));
    assert_eq!(checked.status.code(), Some(2));
    assert!(
        said(&checked).contains("nowhere.yaml"),
        "{}",
        said(&checked)
    );
}

#[test]
fn what_is_no_site_file_is_refused_at_once() {
    for (file, part) in [
        ("/dev/zero", "it is a device"),
        ("/proc/self/exe", "UTF-8"),
        ("/", "name the file"),
    ] {
        let checked = run(renkei().args(["check", file]));
        assert_eq!(checked.status.code(), Some(2), "{file}");
        assert!(said(&checked).contains(part), "{file}: {}", said(&checked));
    }
}

#[test]
fn the_schema_is_a_json_schema() {
    let shown = run(renkei().args(["check", "--schema"]));
    let schema: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    assert!(schema["properties"]["workloads"].is_object());
}

#[test]
fn explain_ends_in_one_sentence() {
    let site = Site::new("osaka");
    site.write(REST);
    let explain = |a: &str, b: &str| {
        let mut command = renkei();
        command
            .args(["explain", a, b, "--site"])
            .arg(site.file())
            .arg("--state")
            .arg(site.state());
        run(&mut command)
    };
    let cases = [
        ("hokkaido.example/reader", "archive", 0, "allowed by"),
        (
            "hokkaido.example/writer",
            "archive",
            1,
            "hokkaido.example/writer may not reach osaka.example/archive",
        ),
        (
            "tokyo.example/reader",
            "archive",
            1,
            "tokyo.example is not under `peers`",
        ),
        (
            "collector",
            "hokkaido.example/broker",
            0,
            "hokkaido.example also decides; its rules are not visible here",
        ),
        (
            "collector",
            "hokkaido.example/other",
            1,
            "has no `hokkaido.example/other: IP:PORT` under `uses`",
        ),
        (
            "tokyo.example/a",
            "kyushu.example/b",
            1,
            "belongs to osaka.example",
        ),
        ("not an id!", "archive", 1, "is not an identity"),
    ];
    for (a, b, code, part) in cases {
        let answer = explain(a, b);
        let text = said(&answer);
        assert_eq!(answer.status.code(), Some(code), "{a} -> {b}:\n{text}");
        let flat = text
            .split_whitespace()
            .filter(|w| *w != "│")
            .collect::<Vec<_>>()
            .join(" ");
        assert!(flat.contains(part), "{a} -> {b}: no {part:?} in:\n{text}");
    }
}

#[test]
fn a_site_that_does_not_run_is_said_so() {
    let site = Site::new("osaka");
    for command in ["status", "apply"] {
        let answer = run(site.command(&[command]));
        assert_eq!(answer.status.code(), Some(1));
        assert!(
            said(&answer).contains("no Renkei is running"),
            "{}",
            said(&answer)
        );
    }
}

#[test]
fn the_bundle_can_be_shown_before_the_first_start_and_stays() {
    let site = Site::new("osaka");
    let first = site.own_bundle();
    assert!(first.contains("x509-svid"), "{first}");
    assert_eq!(site.own_bundle(), first);
    assert_eq!(lab::mode(&site.state()), 0o700);
    let keys = std::fs::read_dir(site.state().join("keys")).expect("keys");
    for key in keys.flatten() {
        assert_eq!(lab::mode(&key.path()), 0o600, "{:?}", key.path());
    }
    assert_eq!(lab::mode(&site.state().join("renkei.db")), 0o600);
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&run(renkei().args(["completions", shell])));
        assert!(script.contains("explain"), "{shell}");
    }
}

#[test]
fn a_failure_is_json_too_when_json_is_asked_for() {
    let site = Site::new("osaka");
    let json = |command: &mut std::process::Command| {
        let output = run(command.args(["--output", "json"]));
        assert_eq!(output.stderr, b"", "{}", said(&output));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(value["ok"], false, "{value}");
        (output.status.code(), value)
    };
    let (code, stopped) = json(site.command(&["status"]));
    assert_eq!(code, Some(1));
    assert!(
        stopped["error"]
            .to_string()
            .contains("no Renkei is running")
    );
    assert!(
        stopped["hint"].to_string().contains("renkei up"),
        "{stopped}"
    );
    let (code, missing) = json(renkei().args(["check", "nowhere.yaml"]));
    assert_eq!(code, Some(2));
    assert!(missing["error"].to_string().contains("nowhere.yaml"));
    site.write("nonsense: 1\n");
    for command in ["check", "apply", "up"] {
        let (code, faulty) = json(renkei().arg(command).arg(site.file()));
        assert_eq!(code, Some(2), "{command}");
        assert_eq!(faulty["faults"][0]["line"], 5, "{command}: {faulty}");
    }
}

#[test]
fn paths_and_commands_in_messages_stay_whole() {
    let site = Site::new("osaka");
    let deep = site.path(&"a-long-name/".repeat(12));
    std::fs::write(site.path("a-long-name"), "in the way").expect("file");
    let failed = run(renkei()
        .arg("up")
        .arg(site.file())
        .arg("--state")
        .arg(&deep));
    assert!(
        said(&failed).contains(&*deep.to_string_lossy()),
        "{}",
        said(&failed)
    );
}

#[test]
fn a_bundle_of_a_new_ca_is_told_from_one_that_a_site_uses() {
    let site = Site::new("osaka");
    let show = || run(site.command(&["bundle", "show", "--output", "json"]));
    let first = String::from_utf8_lossy(&show().stderr).into_owned();
    let state = site.state().display().to_string();
    assert!(
        first.contains("made the CA of osaka.example in") && first.contains(&state),
        "{first}"
    );
    assert_eq!(show().stderr, b"");
    let odd = run(site.command(&["bundle", "show", "--peer", "not a name"]));
    assert_eq!(odd.status.code(), Some(2), "{}", said(&odd));
}

#[test]
fn svid_show_says_what_is_missing() {
    let show = |words: &[&str]| {
        let mut command = renkei();
        command.env_remove("SPIFFE_ENDPOINT_SOCKET");
        let shown = run(command.args(["svid", "show"]).args(words));
        assert_eq!(shown.status.code(), Some(1));
        said(&shown)
    };
    assert!(show(&[]).contains("SPIFFE_ENDPOINT_SOCKET"));
    assert!(show(&["--socket", "/nowhere"]).contains("is the site running?"));
    assert!(show(&["--socket", "tcp://127.0.0.1:1"]).contains("is a unix socket"));
}
