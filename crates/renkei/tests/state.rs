//! What surrounds a site on its machine: user namespaces, lost state, files that others may write,
//! and what a crash would leave behind.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::process::Command;

use lab::{Site, run, said};

/// The program under test in a user namespace that maps nobody.
fn unmapped() -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--user", env!("CARGO_BIN_EXE_renkei")])
        .env("NO_COLOR", "1");
    command
}

#[test]
fn check_names_the_selectors_that_match_nobody_in_a_user_namespace() {
    let site = Site::new("osaka");
    site.write(
        "workloads:\n  a: {selectors: [unix:uid:65534]}\n  b: {selectors: [unix:user:nobody]}\n  \
         c: {selectors: [unix:gid:65534]}\n  d: {selectors: [unix:uid:4242]}\n  \
         e: {selectors: [unix:path:/bin/true]}\n",
    );
    let outside = run(lab::renkei().arg("check").arg(site.file()));
    assert!(outside.status.success(), "{}", said(&outside));
    assert!(!said(&outside).contains("warning"), "{}", said(&outside));
    let inside = run(unmapped().arg("check").arg(site.file()));
    assert!(inside.status.success(), "{}", said(&inside));
    let warned = String::from_utf8_lossy(&inside.stderr);
    for (selector, workload) in [
        ("unix:uid:65534", "a"),
        ("unix:user:nobody", "b"),
        ("unix:gid:65534", "c"),
        ("unix:uid:4242", "d"),
    ] {
        let sentence = format!("warning: {selector} of the workload {workload} matches nobody");
        assert!(warned.contains(&sentence), "{warned}");
    }
    assert!(!warned.contains("/bin/true"), "{warned}");
    let json = run(unmapped()
        .arg("check")
        .arg(site.file())
        .args(["--output", "json"]));
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!(json["warnings"].as_array().map(Vec::len), Some(4), "{json}");
}
