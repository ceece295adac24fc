use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    time::Duration,
};

use renkei_runtime::attest::Attestors;
use renkei_site::Selector;

use super::*;

fn selectors(texts: &[&str]) -> Vec<Selector> {
    texts
        .iter()
        .map(|text| Selector::parse(text).unwrap())
        .collect()
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A connection within this process: our end, and the caller's.
fn connection(on: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((on, 0)).unwrap();
    let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, caller)
}

fn ends(stream: &TcpStream) -> (SocketAddr, SocketAddr) {
    (stream.peer_addr().unwrap(), stream.local_addr().unwrap())
}

#[test]
fn both_tables_of_the_kernel_agree_on_the_owner() {
    for on in ["127.0.0.1", "::1"] {
        let (ours, caller) = connection(on);
        let (peer, local) = ends(&ours);
        let owner = socket_owner(peer, local).unwrap();
        assert_eq!(owner.uid, own_uid());
        assert_ne!(owner.inode, 0);
        let row = sock_diag::lookup(peer, local).unwrap().unwrap();
        assert_eq!(row.open(), Some(owner));
        assert_eq!(proc_net::lookup(peer, local).unwrap(), Some(row));
        drop(caller);
    }
}

#[test]
fn only_users_are_told_without_blocking_and_only_the_right_ones() {
    let (ours, _caller) = connection("127.0.0.1");
    let (peer, local) = ends(&ours);
    let (own, other) = (own_uid(), own_uid() + 1);
    let plainly = |texts: &[&str]| Caller::at(peer, local).is_plainly(&selectors(texts));
    assert!(plainly(&[&format!("unix:uid:{own}")]));
    assert!(!plainly(&[&format!("unix:uid:{other}")]));
    assert!(!plainly(&[
        &format!("unix:uid:{own}"),
        &format!("unix:uid:{other}")
    ]));
    assert!(!plainly(&[]), "nobody's");
    assert!(!plainly(&[
        &format!("unix:uid:{own}"),
        "unix:path:/bin/true"
    ]));
    assert!(!plainly(&["unix:user:nobody-here"]), "not looked up yet");
}

#[test]
fn an_ipv6_socket_with_an_ipv4_peer_is_found() {
    use socket2::{Domain, Socket, Type};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let caller = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    caller.set_only_v6(false).unwrap();
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().unwrap();
    caller.connect(&mapped.into()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let (peer, local) = ends(&ours);
    let peer = canonical(peer);
    assert_eq!(socket_owner(peer, local).unwrap().uid, own_uid());
    assert_eq!(
        proc_net::lookup(peer, local).unwrap().unwrap().owner.uid,
        own_uid()
    );
}

#[test]
fn an_address_of_no_socket_here_is_foreign_even_if_somebody_listens_on_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (ours, _caller) = connection("127.0.0.1");
    let (_, local) = ends(&ours);
    let listening = listener.local_addr().unwrap();
    let error = socket_owner(listening, local).unwrap_err();
    assert!(matches!(error, OwnerError::Foreign(_)), "{error}");
    let elsewhere = "192.0.2.1:4000".parse().unwrap();
    assert!(matches!(
        socket_owner(elsewhere, local),
        Err(OwnerError::Foreign(_))
    ));
}

/// Waits until the caller's socket has no process: a program that another test starts has a copy
/// of every socket until it runs.
fn until_closed(peer: SocketAddr, local: SocketAddr) {
    while find(peer, local)
        .unwrap()
        .is_some_and(|row| row.owner.inode != 0)
    {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_caller_that_has_closed_its_socket_is_known_by_its_user_until_its_end_is_let_through() {
    for on in ["127.0.0.1", "::1"] {
        let listener = TcpListener::bind((on, 0)).unwrap();
        hold_ends(&listener);
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut ours, _) = listener.accept().unwrap();
        let (peer, local) = ends(&ours);
        caller.write_all(b"a line").unwrap();
        drop(caller);
        until_closed(peer, local);
        let (uid, attestors) = (format!("unix:uid:{}", own_uid()), Attestors::default());
        let path = format!("unix:path:{}", std::env::current_exe().unwrap().display());
        let closed = Caller::at(peer, local);
        assert!(
            closed.is_plainly(&selectors(&[&uid])),
            "Linux 6.17 or later"
        );
        let error = closed.attest(&selectors(&[&path]), &attestors).unwrap_err();
        assert_eq!(error.label(), "caller_closed");
        assert!(crate::sockets::is_open(&ours));
        release_end(&ours);
        let mut line = Vec::new();
        ours.read_to_end(&mut line).unwrap();
        assert_eq!(line, b"a line");
    }
}

#[test]
fn what_is_left_of_a_caller_that_has_closed_its_socket_is_nobody() {
    let (mut ours, caller) = connection("127.0.0.1");
    let (peer, local) = ends(&ours);
    drop(caller);
    ours.read_to_end(&mut Vec::new()).unwrap();
    // The kernel says that the remnant is root's. It acknowledges the end after a moment.
    let answers = (0..12_000).map(|_| {
        std::thread::sleep(Duration::from_millis(5));
        socket_owner(peer, local)
    });
    let error = answers.filter_map(Result::err).next().unwrap();
    assert!(
        matches!(error, OwnerError::Closed(_) | OwnerError::Foreign(_)),
        "{error}"
    );
}

#[test]
fn every_selector_must_hold() {
    let (ours, _caller) = connection("127.0.0.1");
    let (peer, local) = ends(&ours);
    let attestors = Attestors::default();
    let check = |texts: &[&str]| Caller::at(peer, local).attest(&selectors(texts), &attestors);
    let (uid, gid) = (own_uid(), rustix::process::getegid().as_raw());
    let uid = format!("unix:uid:{uid}");
    let path = format!("unix:path:{}", std::env::current_exe().unwrap().display());
    check(&[&uid]).unwrap();
    check(&[&uid, &format!("unix:gid:{gid}"), &path]).unwrap();
    assert_eq!(
        check(&[&uid, "unix:path:/bin/true"]).unwrap_err().label(),
        "other_process"
    );
    assert_eq!(
        check(&[&uid, "unix:gid:54321"]).unwrap_err().label(),
        "other_process"
    );
    assert_eq!(
        check(&[&uid, "unix:uid:54321"]).unwrap_err().label(),
        "other_user"
    );
    assert_eq!(
        check(&["unix:user:nobody-of-that-name"])
            .unwrap_err()
            .label(),
        "other_user"
    );
    assert_eq!(check(&[]).unwrap_err().label(), "other_process");
}

/// Needs root, as the machines that run all tests are; elsewhere it cannot become another user.
#[test]
fn a_process_of_another_user_is_seen_as_that_user() {
    assert_eq!(
        own_uid(),
        0,
        "this test becomes another user, which only root can"
    );
    const NOBODY: u32 = 65_534;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -u 3 line; exit 0");
    let mut child = Command::new("bash")
        .args(["-c", &script])
        .stdin(Stdio::null())
        .uid(NOBODY)
        .gid(NOBODY)
        .spawn()
        .unwrap();
    let (mut ours, _) = listener.accept().unwrap();
    let (peer, local) = ends(&ours);
    let (attestors, caller) = (Attestors::default(), Caller::at(peer, local));
    let nobody = selectors(&["unix:uid:65534"]);
    assert_eq!(caller.attest(&nobody, &attestors).unwrap().uid, NOBODY);
    let both = selectors(&["unix:uid:65534", "unix:gid:65534"]);
    caller.attest(&both, &attestors).unwrap();
    let error = caller
        .attest(&selectors(&["unix:uid:0"]), &attestors)
        .unwrap_err();
    assert_eq!(error.label(), "other_user");
    assert!(
        error.to_string().contains("listener is for unix:uid:0"),
        "{error}"
    );
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    ours.read_to_end(&mut Vec::new()).unwrap();
    child.wait().unwrap();
}

#[test]
fn whom_a_user_namespace_does_not_map_is_no_workload() {
    const IN_NAMESPACE: &str = "RENKEI_TEST_IN_USER_NAMESPACE";
    const TEST: &str = "local_caller::tests::whom_a_user_namespace_does_not_map_is_no_workload";
    if std::env::var_os(IN_NAMESPACE).is_none() {
        let again = Command::new("unshare")
            .arg("--user")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(IN_NAMESPACE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&again.stdout);
        assert!(
            again.status.success() && said.contains("1 passed"),
            "{said}"
        );
        return;
    }
    let (ours, _caller) = connection("127.0.0.1");
    let (peer, local) = ends(&ours);
    let (caller, attestors) = (Caller::at(peer, local), Attestors::default());
    for selector in ["unix:uid:65534", "unix:user:nobody"] {
        // Asked twice: the second time its number is known without a look-up.
        for _ in 0..2 {
            assert!(!caller.is_plainly(&selectors(&[selector])), "{selector}");
            let error = caller
                .attest(&selectors(&[selector]), &attestors)
                .unwrap_err();
            assert_eq!(error.label(), "indistinct_user");
            assert!(error.to_string().contains("root included"), "{error}");
        }
    }
    for selector in ["unix:gid:65534", "unix:group:nogroup"] {
        let error = caller.attest(&selectors(&[selector]), &attestors);
        assert_eq!(error.unwrap_err().label(), "other_process");
    }
}
