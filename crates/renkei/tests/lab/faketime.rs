//! Sites whose clock is another than this machine's, by libfaketime.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use renkei_testkit::{Child, wait_for};

use super::{SOON, Site, renkei};

/// The library that sets the clock of one process.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let mut found = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    found
        .find(|library| library.exists())
        .expect("libfaketime is needed for this test (Debian: faketime); scripts/test installs it")
}

/// What sets the clock of a process.
#[derive(Clone, Copy)]
pub(crate) enum Clock<'a> {
    /// For as long as it runs.
    Fixed(&'a str),
    /// As a file says at the moment.
    File(&'a Path),
}

/// Starts the site with another clock, and waits until it is ready.
pub(crate) fn start_by(site: &mut Site, clock: Clock<'_>, admin: SocketAddr) {
    let mut up = renkei();
    up.arg("up").arg(site.file());
    up.arg("--state").arg(site.state());
    up.args(["--drain", "1s", "--admin", &admin.to_string()]);
    by(&mut up, clock);
    let mut process = Child::start(&site.name, &mut up);
    wait_for("the site serves", SOON, || {
        assert!(process.is_running(), "it ended:\n{}", process.output());
        site.try_status().filter(|status| status["ready"] == true)
    });
    site.process = Some(process);
}

/// While libfaketime reads its file, other threads may read the system's clock instead: 3 of
/// 80,000 readings of 4 threads, if it reads the file each time. So a fixed clock has no file, and
/// another is read once a second.
pub(crate) fn by(command: &mut Command, clock: Clock<'_>) {
    match clock {
        Clock::Fixed(offset) => command.env("FAKETIME", offset),
        Clock::File(file) => command
            .env("FAKETIME_TIMESTAMP_FILE", file)
            .env("FAKETIME_CACHE_DURATION", "1"),
    };
    command
        .env("LD_PRELOAD", library())
        // Real machines do not set this one either.
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
}

/// Ends a site, and waits until it has ended.
pub(crate) fn stop(site: &mut Site) {
    site.process().signal("TERM");
    assert!(site.process().wait(SOON).success());
    site.process = None;
}
