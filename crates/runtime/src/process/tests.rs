//! Perl, which every Debian has, plays the process that connects: it can become another user.
//! Only root may start processes of other users; for others, those tests assert the same about
//! the own user, and say so.

use std::{
    fs::Permissions,
    io::{BufRead, BufReader},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use aws_lc_rs::digest;
use renkei_site::Selector;
use tempfile::TempDir;

use super::*;
use crate::attest::{self, Evidence, Mismatch};

fn matches(selectors: &[Selector], facts: &ProcessFacts) -> Result<(), Mismatch> {
    attest::matches(selectors, |selector| facts.holds(selector))
}

const STRANGER: u32 = 4242;

fn am_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("not root: asserting about the own user only");
    }
    root
}

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts
        .iter()
        .map(|text| Selector::parse(text).unwrap())
        .collect()
}

fn mismatch(texts: &[&str], facts: &ProcessFacts) -> String {
    matches(&selectors(texts), facts).unwrap_err().to_string()
}

/// A folder that every user may enter, with a listener that every user may connect to.
struct Meeting {
    folder: TempDir,
    listener: UnixListener,
}

impl Meeting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().join("meet.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        Self { folder, listener }
    }

    /// Runs perl: `before`, then it connects, says so, runs `after` and waits for its input to
    /// end.
    fn perl(&self, before: &str, after: &str) -> (Visitor, UnixStream) {
        let program = format!(
            "use Socket; {before}; socket(S, PF_UNIX, SOCK_STREAM, 0) or die; \
             connect(S, sockaddr_un($ARGV[0])) or die $!; {after}; \
             $| = 1; print \"ready\\n\"; <STDIN>;"
        );
        let mut child = Command::new("/usr/bin/perl")
            .args(["-e", &program])
            .arg(self.folder.path().join("meet.sock"))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("perl runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        (Visitor(child), self.listener.accept().unwrap().0)
    }
}

struct Visitor(Child);

impl Drop for Visitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sha256(path: &Path) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, &std::fs::read(path).unwrap());
    digest.as_ref().try_into().unwrap()
}

#[test]
fn the_facts_of_this_very_process() {
    let (here, _there) = UnixStream::pair().unwrap();
    let facts = peer_of(&here).unwrap();
    assert_eq!(facts.pid, std::process::id() as i32);
    assert_eq!(facts.uid, nix::unistd::geteuid().as_raw());
    let program = facts.executable.as_ref().unwrap();
    let me = std::env::current_exe().unwrap();
    assert_eq!(program.path.as_ref(), Ok(&me));
    let digest = sha256(&me);
    assert_eq!(program.sha256, Ok(digest));

    let uid = format!("unix:uid:{}", facts.uid);
    let (path, sha256) = (
        format!("unix:path:{}", me.display()),
        format!("unix:sha256:{}", hex::encode(digest)),
    );
    matches(&selectors(&[&uid, &path, &sha256]), &facts).unwrap();

    let wrong = format!("unix:sha256:{}", "ab".repeat(32));
    assert!(mismatch(&[&uid, &path, &wrong], &facts).contains("SHA-256 is"));
    let wrong = mismatch(&[&uid, "unix:path:/bin/sh"], &facts);
    assert!(
        wrong.starts_with("unix:path:/bin/sh does not hold: the process runs"),
        "{wrong}"
    );
}

#[test]
fn a_program_that_no_selector_can_match_is_not_touched() {
    let me = std::env::current_exe().unwrap();
    let process = Process::open(std::process::id() as i32).unwrap();
    let path = |path: &Path| {
        let asked = Asked {
            path: true,
            paths: vec![path.to_owned()],
            sha256: false,
        };
        let facts = process.facts(&Digests::default(), &asked).unwrap();
        facts.executable.unwrap().path
    };
    assert_eq!(path(&me), Ok(me.clone()));
    // An answer about the file itself would say that it is, or is not, the one that runs.
    let untouched = format!("the process runs {}", me.display());
    assert_eq!(path(Path::new("/bin/sh")), Err(untouched));
}

#[test]
fn a_workload_without_selectors_matches_nobody() {
    let (here, _there) = UnixStream::pair().unwrap();
    assert_eq!(
        matches(&[], &peer_of(&here).unwrap()),
        Err(Mismatch::NoSelectors)
    );
}

#[test]
fn a_process_of_another_user_is_told_apart_by_number_and_by_name() {
    let meeting = Meeting::new();
    let (becomes, uid) = match am_root() {
        true => (
            format!("$) = '{STRANGER} {STRANGER} 5151'; $( = {STRANGER}; $< = $> = {STRANGER}"),
            STRANGER,
        ),
        false => (String::new(), nix::unistd::geteuid().as_raw()),
    };
    let (visitor, socket) = meeting.perl(&becomes, "");
    let facts = peer_of(&socket).unwrap();
    assert_eq!((facts.pid, facts.uid), (visitor.0.id() as i32, uid));
    matches(&selectors(&[&format!("unix:uid:{uid}")]), &facts).unwrap();
    assert!(mismatch(&["unix:user:nobody"], &facts).contains("the process has user ID"));
    assert!(mismatch(&["unix:user:no-such-user"], &facts).contains("there is no user"));
    assert!(mismatch(&["unix:group:no-such-group"], &facts).contains("there is no group"));
    if am_root() {
        assert!(mismatch(&["unix:user:root"], &facts).contains("4242, not 0"));
        matches(&selectors(&["unix:gid:4242", "unix:gid:5151"]), &facts).unwrap();
        assert!(mismatch(&["unix:group:root"], &facts).contains("not in group 0"));
    }
}

#[test]
fn names_are_resolved_by_the_system() {
    let (here, _there) = UnixStream::pair().unwrap();
    let facts = peer_of(&here).unwrap();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap();
    let group = nix::unistd::Group::from_gid(nix::unistd::getegid())
        .unwrap()
        .unwrap();
    let (user, group) = (
        format!("unix:user:{}", user.name),
        format!("unix:group:{}", group.name),
    );
    matches(&selectors(&[&user, &group]), &facts).unwrap();
}

#[test]
fn who_has_become_another_user_since_connecting_is_refused() {
    if !am_root() {
        let (here, _there) = UnixStream::pair().unwrap();
        assert_eq!(peer_of(&here).unwrap().uid, nix::unistd::geteuid().as_raw());
        return;
    }
    let meeting = Meeting::new();
    let (_visitor, socket) = meeting.perl("", &format!("$> = {STRANGER}"));
    match peer_of(&socket) {
        Err(AttestError::UserChanged {
            then: 0,
            now: STRANGER,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_left_behind_by_its_process_proves_nothing() {
    let meeting = Meeting::new();
    // The parent connects and ends; its child holds the connection.
    let (mut visitor, socket) = meeting.perl("", "$| = 1; if (fork) { exit }");
    visitor.0.wait().unwrap();
    let error = peer_of(&socket).unwrap_err();
    assert!(matches!(error, AttestError::Gone(_)), "{error}");
}

#[test]
fn a_handle_outlives_its_process_without_meaning_another() {
    let meeting = Meeting::new();
    let (mut visitor, socket) = meeting.perl("", "");
    let process = Process::peer_of(&socket).unwrap();
    process.check_alive().unwrap();
    visitor.0.kill().unwrap();
    // A zombie is no workload either.
    let error = loop {
        match process.facts(&Digests::default(), &Asked::default()) {
            Ok(_) => std::thread::yield_now(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AttestError::Gone(_)), "{error}");
    visitor.0.wait().unwrap();
    assert!(matches!(process.check_alive(), Err(AttestError::Gone(_))));
}

#[test]
fn a_replaced_program_no_longer_matches_by_path() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("sleep");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let visitor = Visitor(Command::new(&program).arg("60").spawn().unwrap());
    let facts = || {
        let process = Process::open(visitor.0.id() as i32).unwrap();
        process.facts(&Digests::default(), &Asked::ALL).unwrap()
    };
    let path = format!("unix:path:{}", program.display());
    while matches(&selectors(&[&path]), &facts()).is_err() {
        std::thread::yield_now(); // between fork and exec it is still this program
    }
    let before = sha256(&program);
    std::fs::rename(copy_of_true(folder.path()), &program).unwrap();
    assert!(mismatch(&[&path], &facts()).contains("does not hold"));
    assert_eq!(
        facts().executable.unwrap().sha256,
        Ok(before),
        "what runs, not what lies there"
    );
    assert_ne!(sha256(&program), before);
}

fn copy_of_true(folder: &Path) -> PathBuf {
    let copy = folder.join("true");
    std::fs::copy("/bin/true", &copy).unwrap();
    copy
}

#[test]
fn a_digest_is_computed_only_when_asked_for_and_anew_when_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("sleep");
    std::fs::copy("/bin/sleep", &program).unwrap();
    let digests = Digests::default();
    let run = || Visitor(Command::new(&program).arg("60").spawn().unwrap());
    let read = |visitor: &Visitor, sha256| {
        let process = Process::open(visitor.0.id() as i32).unwrap();
        loop {
            let facts = process
                .facts(
                    &digests,
                    &Asked {
                        sha256,
                        ..Asked::ALL
                    },
                )
                .unwrap()
                .executable
                .unwrap();
            if facts.path.as_ref() == Ok(&program) {
                return facts.sha256;
            }
        }
    };
    let first = run();
    assert!(read(&first, false).is_err());
    let before = read(&first, true).unwrap();
    assert_eq!(read(&first, true), Ok(before));
    drop(first);
    // Bytes after the end of the program change nothing but its digest.
    let mut longer = std::fs::read(&program).unwrap();
    longer.push(0);
    std::fs::write(&program, longer).unwrap();
    assert_ne!(read(&run(), true).unwrap(), before);
}

/// Runs this test again in a user namespace that maps nobody, as a test of its own.
fn again_in_a_user_namespace(test: &str) {
    let again = Command::new("unshare")
        .arg("--user")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(IN_NAMESPACE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&again.stdout);
    assert!(
        again.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&again.stderr)
    );
}

const IN_NAMESPACE: &str = "RENKEI_TEST_IN_USER_NAMESPACE";

#[test]
fn whom_a_user_namespace_does_not_map_is_known_by_no_number_and_no_name() {
    if std::env::var_os(IN_NAMESPACE).is_none() {
        return again_in_a_user_namespace(
            "process::tests::whom_a_user_namespace_does_not_map_is_known_by_no_number_and_no_name",
        );
    }
    let (here, _there) = UnixStream::pair().unwrap();
    let facts = peer_of(&here).unwrap();
    assert_eq!((facts.uid, facts.gid), (65_534, 65_534));
    let group = nix::unistd::Group::from_gid(65_534.into())
        .unwrap()
        .unwrap();
    for selector in [
        "unix:uid:65534".to_owned(),
        "unix:user:nobody".to_owned(),
        "unix:gid:65534".to_owned(),
        format!("unix:group:{}", group.name),
    ] {
        let reason = mismatch(&[&selector], &facts);
        assert!(reason.contains("root included"), "{selector}: {reason}");
        let parsed = Selector::parse(&selector).unwrap();
        assert!(never_matches(&parsed).is_some(), "{selector}");
    }
    let other = Selector::parse("unix:uid:1000").unwrap();
    assert!(never_matches(&other).unwrap().contains("not mapped"));
    let path = format!("unix:path:{}", std::env::current_exe().unwrap().display());
    matches(&selectors(&[&path]), &facts).unwrap();
    assert_eq!(never_matches(&Selector::parse(&path).unwrap()), None);
}

#[test]
fn outside_of_user_namespaces_every_number_is_somebody() {
    for selector in ["unix:uid:65534", "unix:gid:65534", "unix:uid:12345678"] {
        assert_eq!(never_matches(&Selector::parse(selector).unwrap()), None);
    }
}
