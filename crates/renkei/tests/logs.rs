//! Sites whose log cannot be written, or is not read: they go on as if nothing were wrong.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    fs::{File, OpenOptions},
    io::Write,
    process::{Command, Stdio},
};

use lab::{SOON, Site, callee, caller, echo, exchange_soon, metrics::metric, renkei, run, said};
use renkei_testkit::{Child, free_address, wait_for};
use serde_json::Value;

/// Runs osaka with this standard error: its SVIDs are renewed, its traffic goes on, it is ready,
/// and it ends when it is asked to. Gives the number of lost lines.
fn works_with(errors: Stdio) -> u64 {
    let (mut hokkaido, mut osaka) = (Site::renewing("hokkaido"), Site::renewing("osaka"));
    let (local, admin) = (free_address(), free_address());
    hokkaido.write(&callee(&hokkaido, &osaka, echo()));
    osaka.write(&caller(&osaka, &hokkaido, local));
    hokkaido.start();
    let mut up = renkei();
    up.arg("up").arg(osaka.file());
    up.arg("--state").arg(osaka.state());
    up.args(["--log", "trace", "--drain", "1s"]);
    up.args(["--admin", &admin.to_string()]);
    osaka.process = Some(Child::start_with_errors("osaka", &mut up, errors));
    wait_for("osaka serves", SOON, || {
        osaka.try_status().filter(|status| status["ready"] == true)
    });
    osaka.wait_linked();
    exchange_soon(local, b"before");
    let before = osaka.renewals();
    // More than the life of an SVID: nothing lives on what was issued at the start.
    wait_for("osaka renews its SVIDs", 2 * SOON, || {
        (osaka.renewals() >= before + 3).then_some(())
    });
    exchange_soon(local, b"after");
    let status = osaka.status();
    assert_eq!(status["ready"], true, "{status:#}");
    let lost = metric(admin, "renkei_log_lines_dropped_total ");
    osaka.process().signal("TERM");
    assert!(osaka.process().wait(SOON).success());
    lost
}

#[test]
fn a_log_on_a_full_disk_stops_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full");
    assert!(works_with(full.expect("/dev/full").into()) > 0);
}

#[test]
fn a_log_whose_reader_is_dead_stops_nothing() {
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    assert!(works_with(writer.into()) > 0);
}

#[test]
fn a_log_that_is_not_read_stops_nothing() {
    let (reader, writer) = std::io::pipe().expect("pipe");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    works_with(writer.into());
    drop(reader);
}

#[test]
fn a_start_that_fails_ends_though_its_log_is_not_read() {
    let site = Site::new("osaka");
    let (reader, mut writer) = std::io::pipe().expect("pipe");
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    writer.write_all(&[b'x'; 4096]).expect("a full pipe");
    let mut up = renkei();
    up.arg("up").arg(site.file());
    up.args(["--state", "/proc/nowhere"]);
    let mut process = Child::start_with_errors("osaka", &mut up, writer.into());
    assert_eq!(process.wait(SOON).code(), Some(1));
    drop(reader);
}

#[test]
fn a_start_that_fails_says_why_at_the_end_of_its_log() {
    let site = Site::new("osaka");
    let mut up = renkei();
    up.arg("up").arg(site.file());
    let failed = run(up.args(["--log", "debug", "--state", "/proc/nowhere"]));
    let text = said(&failed);
    assert_eq!(failed.status.code(), Some(1), "{text}");
    assert!(text.contains("/proc/nowhere"), "{text}");
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_no_panic() {
    let site = Site::new("osaka");
    let full = || File::options().write(true).open("/dev/full").expect("full");
    let fails = |command: &mut Command| {
        let ended = command.stdout(full()).stderr(Stdio::piped()).output();
        let ended = ended.expect("it runs");
        let text = said(&ended);
        assert_eq!(ended.status.code(), Some(1), "{text}");
        assert!(text.contains("No space left on device"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    };
    fails(renkei().arg("check").arg(site.file()));
    fails(renkei().args(["check", "--schema"]));
    fails(renkei().args(["completions", "bash"]));
    fails(renkei().arg("--help"));
    fails(renkei().arg("--version"));
    fails(site.command(&["bundle", "show", "--output", "json"]));

    // Neither of both can be written: still no panic.
    let mut check = renkei();
    let silent = check.arg("check").arg(site.file());
    let ended = silent.stdout(full()).stderr(full()).status();
    assert_eq!(ended.expect("it runs").code(), Some(1));
    // A reader who has seen enough is no failure.
    let (reader, writer) = std::io::pipe().expect("pipe");
    drop(reader);
    let mut schema = renkei();
    let ended = schema.args(["check", "--schema"]).stdout(writer).status();
    assert!(ended.expect("it runs").success());
}

/// The span of the first connection that the site's log has opened.
fn opened(site: &mut Site) -> Value {
    wait_for("a line of an open connection", SOON, || {
        let output = site.process().output();
        let lines = output
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let mut opened = lines.filter(|line: &Value| line["message"] == "opened");
        opened.next().map(|line| line["span"].clone())
    })
}

#[test]
fn a_connection_is_followed_through_the_logs_of_both_sites() {
    let (mut hokkaido, mut osaka) = (Site::new("hokkaido"), Site::new("osaka"));
    let local = free_address();
    hokkaido.write(&callee(&hokkaido, &osaka, echo()));
    osaka.write(&caller(&osaka, &hokkaido, local));
    for site in [&mut hokkaido, &mut osaka] {
        site.start_with(&["--log", "info,renkei_proxy=debug", "--log-format", "json"]);
    }
    osaka.wait_linked();
    exchange_soon(local, b"hello");
    let (here, there) = (opened(&mut osaka), opened(&mut hokkaido));
    for key in ["caller", "callee", "trunk", "stream"] {
        assert!(!here[key].is_null(), "{key} in {here}");
        assert_eq!(here[key], there[key], "{key}");
    }
    assert_eq!(here["direction"], "outbound");
    assert_eq!(there["direction"], "inbound");
    assert_eq!(here["flow"], 1, "{here}");
}
