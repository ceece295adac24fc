//! Whose bytes are carried: real processes of two users at one local listener. Needs root, which
//! alone can be two users.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    net::SocketAddr,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
};

use lab::{Lab, Node, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const WORKLOAD: u32 = 4_243;

/// The stranger leaves bytes behind, resets, and lets the workload have its port.
const STRANGER: &str = r#"
    use Socket; $) = "4242 4242"; $( = 4242; $< = $> = 4242;
    $| = 1; my ($host, $port, $from, $rounds) = @ARGV;
    for (1 .. $rounds) {
        socket(S, PF_INET, SOCK_STREAM, 0) or die $!;
        setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
        setsockopt(S, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0));
        bind(S, sockaddr_in($from, inet_aton("127.0.0.1"))) or die "stranger: $!";
        connect(S, sockaddr_in($port, inet_aton($host))) or die "stranger: $!";
        syswrite(S, "stranger\n");
        close(S);
        print "over to you\n";
        defined(<STDIN>) or die "the workload left";
    }
"#;

/// The workload says a line and waits until it has come back whole.
const CALLER: &str = r#"
    use Socket; $) = "4243 4243"; $( = 4243; $< = $> = 4243;
    $| = 1; my ($host, $port, $from, $rounds) = @ARGV;
    for (1 .. $rounds) {
        defined(<STDIN>) or die "the stranger left";
        # A connection that ends in our handshake is one that the stranger left half open.
        for (my $done = 0; !$done;) {
            socket(S, PF_INET, SOCK_STREAM, 0) or die $!;
            setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
            setsockopt(S, SOL_SOCKET, SO_LINGER, pack("ii", 1, 0));
            bind(S, sockaddr_in($from, inet_aton("127.0.0.1"))) or die "workload: $!";
            if (connect(S, sockaddr_in($port, inet_aton($host)))) {
                syswrite(S, "workload\n");
                $done = sysread(S, my $back, 9) && 1;
            }
            close(S);
        }
        print "over to you\n";
    }
"#;

/// A backend that keeps all that it gets, and sends it back.
async fn recorder() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard: Arc<Mutex<Vec<u8>>> = Arc::default();
    let all = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let all = all.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    all.lock().unwrap().extend_from_slice(&buffer[..read]);
                    let _ = stream.write_all(&buffer[..read]).await;
                }
            });
        }
    });
    (address, heard)
}

/// Lets both take turns at the listener, from one port, and ends when one of them does.
fn take_turns(listen: SocketAddr, rounds: u32) {
    let (host, port) = (listen.ip().to_string(), listen.port().to_string());
    let from = renkei_testkit::free_address().port().to_string();
    let rounds = rounds.to_string();
    let run = |program: &str| {
        let mut perl = Command::new("/usr/bin/perl");
        perl.args(["-e", program, &host, &port, &from, &rounds])
            .current_dir("/");
        perl
    };
    let (to_workload, from_stranger) = std::io::pipe().unwrap();
    let (to_stranger, from_workload) = std::io::pipe().unwrap();
    let mut stranger = run(STRANGER)
        .stdin(Stdio::from(to_stranger))
        .stdout(Stdio::from(from_stranger))
        .spawn()
        .unwrap();
    let mut workload = run(CALLER)
        .stdin(Stdio::from(to_workload))
        .stdout(Stdio::from(from_workload))
        .spawn()
        .unwrap();
    assert!(workload.wait().unwrap().success());
    assert!(stranger.wait().unwrap().success());
}

async fn only_the_workload_is_heard(selectors: &str, rounds: u32) {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test becomes two users, which only root can"
    );
    let (backend, heard) = recorder().await;
    let lab = Lab::new(&[backend]);
    let _hokkaido = lab.hokkaido().await;
    let text = lab
        .osaka_text_for(WORKLOAD)
        .replace(&format!("'unix:uid:{WORKLOAD}'"), selectors);
    let osaka = Node::start(&text, lab.osaka_identities()).await;
    let listen = lab.listen;
    tokio::task::spawn_blocking(move || take_turns(listen, rounds))
        .await
        .unwrap();
    let heard = String::from_utf8(heard.lock().unwrap().clone()).unwrap();
    let strange = heard.matches("stranger").count();
    assert_eq!(strange, 0, "of {rounds} times; {:?}", osaka.reasons());
    assert!(heard.matches("workload\n").count() >= rounds as usize);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_bytes_are_not_the_workloads_that_takes_over_its_port() {
    only_the_workload_is_heard("'unix:uid:4243'", 2_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_bytes_are_not_those_of_a_workload_found_by_its_process() {
    only_the_workload_is_heard("'unix:gid:4243', 'unix:path:/usr/bin/perl'", 60).await;
}

/// What callers say that write a line and exit: all of them have, before the proxy can accept the
/// first, for this test blocks its only thread.
async fn heard_of_callers_that_exit(
    selectors: &str,
    times: usize,
) -> (Node, Lab, Arc<Mutex<Vec<u8>>>) {
    let (backend, heard) = recorder().await;
    let lab = Lab::new(&[backend]);
    let hokkaido = lab.hokkaido().await;
    let text = lab
        .osaka_text_for(WORKLOAD)
        .replace(&format!("'unix:uid:{WORKLOAD}'"), selectors);
    let osaka = Node::start(&text, lab.osaka_identities()).await;
    let script = format!(
        "echo x > /dev/tcp/{}/{}",
        lab.listen.ip(),
        lab.listen.port()
    );
    for _ in 0..times {
        let mut echo = Command::new("bash");
        echo.args(["-c", &script]).uid(WORKLOAD).gid(WORKLOAD);
        assert!(echo.status().unwrap().success());
    }
    std::mem::forget(hokkaido);
    (osaka, lab, heard)
}

#[tokio::test]
async fn callers_that_write_and_exit_at_once_are_all_heard() {
    const TIMES: usize = 100;
    let (osaka, _lab, heard) = heard_of_callers_that_exit("'unix:uid:4243'", TIMES).await;
    eventually("every line", || {
        assert_eq!(osaka.reasons(), Vec::<&str>::new());
        let heard = heard.lock().unwrap().clone();
        (heard == b"x\n".repeat(TIMES)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn callers_that_exit_before_their_process_is_examined_are_refused_counted_and_reset() {
    const TIMES: usize = 5;
    let selectors = "'unix:uid:4243', 'unix:gid:4243'";
    let (osaka, lab, heard) = heard_of_callers_that_exit(selectors, TIMES).await;
    eventually("every refusal", || {
        (osaka.reasons() == ["caller_closed"; TIMES]).then_some(())
    })
    .await;
    let sentence = osaka.refusal("caller_closed").await;
    assert!(
        sentence.contains("its process can no longer be examined"),
        "{sentence}"
    );
    // What is left of a caller sends its FIN again and again, until it is reset.
    let listen = lab.listen;
    eventually("no caller has anything left to send", || {
        let sockets = procfs::net::tcp().unwrap();
        let waiting = sockets.iter().any(|socket| {
            socket.remote_address == listen && socket.state == procfs::net::TcpState::FinWait1
        });
        (!waiting).then_some(())
    })
    .await;
    assert!(heard.lock().unwrap().is_empty());
}
