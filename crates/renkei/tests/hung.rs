//! A mount that gives no answer, as of a file server that is gone: a FUSE file system that nobody
//! serves, in a mount namespace of the process that meets it.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use lab::{SOON, Site, echo, run};
use renkei_testkit::{Child, wait_for};

/// Mounts at its first argument, and becomes the rest. The file system lasts as long as this
/// process, which keeps the other end of it.
const BEHIND: &str = "exec 9<>/dev/fuse && mount -i -t fuse -o \
    fd=9,rootmode=40000,user_id=0,group_id=0 hung \"$1\" && shift && exec \"$@\"";

/// The program under test where `folder` is such a mount. Any access to it waits for ever.
fn behind(folder: &Path) -> Command {
    fs::create_dir_all(folder).expect("folder");
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", BEHIND, "sh"]).arg(folder);
    command.arg(env!("CARGO_BIN_EXE_renkei"));
    command.env_remove("RUST_LOG").env("NO_COLOR", "1");
    command
}

/// A site whose three policies lie behind links, which lead to `policies` so far.
fn site_behind_links() -> Site {
    let site = Site::new("osaka");
    fs::create_dir(site.path("policies")).expect("folder");
    let rego = "package renkei.authz\nimport rego.v1\nallow if true\n";
    fs::write(site.path("policies").join("echo.rego"), rego).expect("policy");
    let mut services = "services:\n".to_owned();
    for name in ["one", "two", "three"] {
        symlink(site.path("policies"), site.path(name)).expect("link");
        let backend = echo();
        services += &format!("  {name}: {{backends: ['{backend}'], policy: {name}/echo.rego}}\n");
    }
    site.write(&services);
    site
}

/// Whether a thread of the process uses a file.
fn uses_a_file(process: &Child) -> bool {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).expect("it runs");
    let names = tasks.flatten().map(|task| task.path().join("comm"));
    names
        .filter_map(|name| fs::read_to_string(name).ok())
        .any(|name| name.trim() == "file")
}

#[test]
fn a_termination_does_not_wait_for_a_reload_whose_files_hang() {
    // On a machine so busy that the reload's 15 s are over before the signal arrives, it is tried
    // again.
    for _ in 0..3 {
        let site = site_behind_links();
        let mut up = behind(&site.path("hung"));
        up.arg("up").arg(site.file()).arg("--state");
        up.arg(site.state()).args(["--admin", "none"]);
        let mut process = Child::start("osaka", &mut up);
        wait_for("it serves", SOON, || {
            assert!(process.is_running(), "{}", process.output());
            process.output().contains("the site is ready").then_some(())
        });
        for name in ["one", "two", "three"] {
            fs::remove_file(site.path(name)).expect("removed");
            symlink(site.path("hung"), site.path(name)).expect("link");
        }
        process.signal("HUP");
        wait_for("the reload reads", SOON, || {
            uses_a_file(&process).then_some(())
        });
        process.signal("TERM");
        let status = process.wait(SOON);
        assert_eq!(status.code(), Some(0), "{}", process.output());
        if !process.output().contains("did not answer") {
            return;
        }
    }
    panic!("the reload was over before the end, three times");
}

#[test]
fn a_command_whose_control_socket_hangs_says_so_and_ends() {
    let site = Site::new("osaka");
    let hung = site.path("hung");
    for word in ["status", "apply"] {
        let mut command = behind(&hung);
        command.arg(word).arg(site.file());
        command.arg("--state").arg(hung.join("state"));
        let mut child = Child::start("renkei", &mut command);
        let status = child.wait(SOON);
        let output = child.output();
        assert!(matches!(status.code(), Some(1 | 2)), "{word}: {output}");
        let text = output.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("did not answer within 5 s"), "{output}");
    }
}

#[test]
fn a_site_whose_agents_socket_hangs_says_so_and_can_be_stopped() {
    let (site, other) = (Site::new("osaka"), Site::new("kyoto"));
    site.write(&format!(
        "{}services:\n  echo: {{backends: ['{}'], allow: [kyoto.example/a]}}\n",
        site.peers(&[&other]),
        echo()
    ));
    let hung = site.path("hung");
    let socket = format!("unix://{}", hung.join("agent.sock").display());
    let mut up = behind(&hung);
    up.arg("up").arg(site.file()).arg("--state");
    up.arg(site.state()).args(["--admin", "none"]);
    up.args(["--workload-api", &socket]);
    let mut process = Child::start("osaka", &mut up);
    wait_for("it says so", SOON, || {
        let said = run(site.command(&["status", "--output", "json"]));
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(process.is_running(), "{}", process.output());
        said.contains("did not answer within 5 s").then_some(())
    });
    process.signal("TERM");
    let status = process.wait(SOON);
    assert_eq!(status.code(), Some(0), "{}", process.output());
}
