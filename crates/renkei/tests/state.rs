//! What surrounds a site on its machine: user namespaces, state that is lost or cannot be written,
//! files that others may write, and what a crash would leave behind.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::Command,
};

use lab::{SOON, Site, run, said};
use renkei_testkit::{Child, python, wait_for};

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
        let sentence = format!("warning: {selector} of the workload {workload} matches no process");
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

/// What `up` says that must not start.
fn refused_start(site: &Site) -> String {
    let mut process = Child::start("up", site.command(&["up", "--admin", "none"]));
    let status = process.wait(SOON);
    assert_eq!(status.code(), Some(1), "{}", process.output());
    process.output()
}

#[test]
fn keys_without_their_database_and_the_reverse_stop_the_start_and_make_no_new_ca() {
    type Loss = fn(&Path);
    let losses: [(&str, Loss); 4] = [
        ("renkei.db is missing or empty", |state| {
            fs::remove_file(state.join("renkei.db")).expect("removed");
        }),
        ("renkei.db is missing or empty", |state| {
            fs::write(state.join("renkei.db"), "").expect("emptied");
        }),
        ("ca.bak is of a site that has run", |state| {
            fs::remove_file(state.join("renkei.db")).expect("removed");
            fs::remove_dir_all(state.join("keys")).expect("removed");
            fs::create_dir(state.join("keys")).expect("made");
            fs::write(state.join("keys").join("ca.bak"), "").expect("a copy");
        }),
        ("is missing; restore it", |state| {
            fs::remove_dir_all(state.join("keys")).expect("removed");
        }),
    ];
    for (sentence, lose) in losses {
        let site = Site::new("osaka");
        site.own_bundle();
        let keys = site.state().join("keys");
        let before = fs::read_dir(&keys).expect("keys").count();
        lose(&site.state());
        let shown = run(site.command(&["bundle", "show", "--output", "json"]));
        assert!(!shown.status.success(), "{}", said(&shown));
        let output = refused_start(&site);
        let text = output.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains(sentence), "{output}");
        assert!(text.contains("move the state folder away"), "{output}");
        let after = fs::read_dir(&keys).map_or(0, Iterator::count);
        assert!(after <= before, "no new key: {output}");
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
}

#[test]
fn files_that_every_user_may_change_are_named_by_check_and_at_the_start() {
    let mut site = Site::new("osaka");
    let file = site.file();
    set_mode(&file, 0o666);
    let checked = run(lab::renkei().arg("check").arg(&file));
    assert!(checked.status.success(), "{}", said(&checked));
    let sentence = format!("every user may write {} (mode 0666)", file.display());
    assert!(said(&checked).contains(&sentence), "{}", said(&checked));
    set_mode(&file, 0o644);
    set_mode(site.folder.path(), 0o777);
    let checked = run(lab::renkei().arg("check").arg(&file));
    let sentence = format!("every user may replace {}", file.display());
    assert!(said(&checked).contains(&sentence), "{}", said(&checked));
    site.own_bundle();
    let database = site.state().join("renkei.db");
    set_mode(&database, 0o666);
    site.start();
    site.logged(&sentence);
    site.logged(&format!(
        "every user may write {} (mode 0666)",
        database.display()
    ));
    site.logged(&format!(
        "every user may replace {}",
        site.state().display()
    ));
}

/// What is in `/proc/PID` of a process that may not be dumped belongs to root. Root's own does
/// anyway, so that root plays another user.
#[test]
fn a_crash_writes_no_keys_to_a_file() {
    const USER: u32 = 4_242;
    let mut site = Site::new("osaka");
    let program = site.path("renkei");
    fs::copy(env!("CARGO_BIN_EXE_renkei"), &program).expect("copy");
    let mut up = Command::new(&program);
    up.arg("up")
        .arg(site.file())
        .arg("--state")
        .arg(site.state())
        .args(["--admin", "none"]);
    if rustix::process::geteuid().is_root() {
        for path in [site.folder.path().to_owned(), site.file(), program] {
            chown(path, Some(USER), Some(USER)).expect("chown");
        }
        up.uid(USER).gid(USER);
    }
    let process = site.process.insert(Child::start("osaka", &mut up));
    let folder = format!("/proc/{}", process.id());
    wait_for("it serves", SOON, || {
        process
            .output()
            .contains("every listener is open")
            .then_some(())
    });
    let limits = fs::read_to_string(format!("{folder}/limits")).expect("limits");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file"));
    let core: Vec<&str> = core.expect("a limit").split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "{limits}");
    let limits = fs::metadata(format!("{folder}/limits"));
    assert_eq!(limits.expect("process").uid(), 0);
}

fn statement(database: &Path, text: &str) {
    let program = "import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=60) as database:
    database.execute(sys.argv[2])";
    let output = run(Command::new(python())
        .args(["-c", program])
        .arg(database)
        .arg(text));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn apply_says_what_its_database_does_not_take_and_ends_what_was_removed() {
    let mut site = Site::new("osaka");
    let stays = "workloads:\n  stays: {selectors: [unix:uid:4242]}\n";
    site.write(&format!("{stays}  gone: {{selectors: [unix:uid:4243]}}\n"));
    site.start();
    let database = site.state().join("renkei.db");
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON entry_set
                  BEGIN SELECT RAISE(FAIL, 'not today'); END";
    statement(&database, refuse);
    site.write(&format!("{stays}  new: {{selectors: [unix:uid:4244]}}\n"));
    let applied = site.apply();
    assert!(applied.status.success(), "{}", said(&applied));
    let warned = said(&applied).contains("warning: the entries of the site file could not");
    assert!(warned, "{}", said(&applied));
    assert!(said(&applied).contains("not today"), "{}", said(&applied));
    let has = |name: &str| site.status()["server"].to_string().contains(name);
    assert!(has("osaka.example/stays"), "{}", site.status());
    assert!(!has("osaka.example/gone"), "{}", site.status());
    assert!(!has("osaka.example/new"), "{}", site.status());
    site.wait_not_ready();
    statement(&database, "DROP TRIGGER refuse");
    wait_for("the entries are in force", SOON, || {
        (site.status()["ready"] == true && has("osaka.example/new")).then_some(())
    });
    let applied = site.apply();
    assert_eq!(said(&applied), "Nothing has changed.\n");
}
