//! The systemd unit: what it says about the program is true. systemd itself is played by a
//! notification socket and the variables that it sets.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{os::unix::net::UnixDatagram, path::Path, process::Command};

use lab::{SOON, Site, mode, own_uid, renkei, run, said};
use renkei_testkit::Child;

const UNIT: &str = include_str!("../../../deploy/systemd/renkei@.service");

/// The values of a key, in their order.
fn values(key: &str) -> Vec<&'static str> {
    let lines = UNIT.lines().filter_map(|line| line.split_once('='));
    lines
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| value)
        .collect()
}

/// A command of the unit, with the program under test and the site's own file.
fn command(key: &str, site: &Site) -> Command {
    let words: Vec<&str> = values(key)[0].split(' ').collect();
    assert_eq!(words[0], "/usr/local/bin/renkei", "{key}");
    let mut command = renkei();
    for word in &words[1..] {
        match *word {
            "/etc/renkei/%i.yaml" => command.arg(site.file()),
            word => command.arg(word),
        };
    }
    command
        .env("STATE_DIRECTORY", site.state())
        .env("RUNTIME_DIRECTORY", site.path("run"));
    command
}

/// What the program tells systemd next.
fn told(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let length = socket.recv(&mut buffer).expect("a notification in time");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

fn folder_with_mode(path: &Path, bits: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir(path).expect("folder");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).expect("mode");
}

#[test]
fn a_site_starts_reloads_and_stops_as_the_unit_says() {
    let mut site = Site::new("osaka");
    let admin = renkei_testkit::free_address();
    let file = format!(
        "admin: {admin}\nworkloads:\n  collector: {{selectors: [{}]}}\n",
        own_uid()
    );
    site.write(&file);
    assert_eq!(
        (values("StateDirectoryMode"), values("RuntimeDirectoryMode")),
        (vec!["0700"], vec!["0755"])
    );
    folder_with_mode(&site.state(), 0o700);
    folder_with_mode(&site.path("run"), 0o755);
    let socket = UnixDatagram::bind(site.path("notify")).expect("socket");
    socket.set_read_timeout(Some(SOON)).expect("timeout");
    let mut up = command("ExecStart", &site);
    up.env("NOTIFY_SOCKET", site.path("notify"));
    assert_eq!(values("UMask"), ["0077"]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "umask 0077; exec \"$@\"", "sh"])
        .arg(up.get_program())
        .args(up.get_args());
    for (name, value) in up.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    site.process = Some(Child::start("osaka", &mut shell));
    assert!(told(&socket).contains("READY=1"));
    assert_eq!(
        mode(&site.path("run/workload.sock")),
        0o666,
        "every user may ask"
    );
    let reload = run(&mut command("ExecReload", &site));
    assert_eq!(said(&reload), "Nothing has changed.\n");
    site.write(&(file + "nonsense: 1\n"));
    let reload = run(&mut command("ExecReload", &site));
    let faulty = values("RestartPreventExitStatus")[0].parse().ok();
    assert_eq!(reload.status.code(), faulty, "{}", said(&reload));
    site.process().signal("TERM");
    assert!(told(&socket).contains("STOPPING=1"));
    assert!(site.process().wait(SOON).success());
    let again = run(&mut command("ExecStart", &site));
    assert_eq!(
        again.status.code(),
        faulty,
        "a faulty file is not started again and again"
    );
}

#[test]
fn no_unit_lets_a_crash_write_keys_to_a_file() {
    assert_eq!(values("LimitCORE"), ["0"]);
    let registry = include_str!("../../../deploy/systemd/renkei-registry.service");
    assert!(registry.lines().any(|line| line == "LimitCORE=0"));
}
