//! Backends behind unix sockets: who may connect to them, and how their connections end.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use lab::{Lab, Node, assert_reset, eventually, ping, within};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// A folder that every user may search, and a socket in it.
struct Socket {
    _folder: TempDir,
    path: PathBuf,
}

impl Socket {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        set(folder.path(), 0o755);
        let path = folder.path().join("socket");
        Self {
            _folder: folder,
            path,
        }
    }

    fn listen(&self) -> UnixListener {
        let listener = UnixListener::bind(&self.path).unwrap();
        set(&self.path, 0o660);
        listener
    }

    async fn sites(&self) -> (Lab, Node, Node) {
        let lab = Lab::new(&[]);
        let backends = format!("backends: ['unix:{}']", self.path.display());
        let text = lab
            .hokkaido_text("osaka.example/collector")
            .replace("backends: []", &backends);
        let hokkaido = Node::start(&text, lab.hokkaido_identities()).await;
        let osaka = lab.osaka().await;
        (lab, hokkaido, osaka)
    }
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

async fn accept(listener: &UnixListener) -> UnixStream {
    within(listener.accept()).await.unwrap().0
}

/// Sends back what each connection sends.
fn echo(listener: UnixListener) {
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_and_the_end_of_each_direction_pass_a_unix_socket() {
    let socket = Socket::new();
    let listener = socket.listen();
    let (lab, hokkaido, osaka) = socket.sites().await;
    let mut app = lab.connect().await;
    let mut service = accept(&listener).await;
    app.write_all(b"question").await.unwrap();
    app.shutdown().await.unwrap();
    let mut all = Vec::new();
    within(service.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"question");
    // Longer than any buffer on the way.
    let answer: Vec<u8> = (0..8_000_000u32).map(|n| (n % 251) as u8).collect();
    let sent = answer.clone();
    let sending = tokio::spawn(async move { service.write_all(&sent).await });
    let mut all = Vec::new();
    within(app.read_to_end(&mut all)).await.unwrap();
    assert!(all == answer, "{} bytes of {}", all.len(), answer.len());
    sending.await.unwrap().unwrap();
    eventually("both closed", || {
        (osaka.open() + hokkaido.open() == 0).then_some(())
    })
    .await;
    let status = hokkaido.proxy.status().await;
    let address = format!("unix:{}", socket.path.display());
    let [backend] = &status.backends[..] else {
        panic!("{status:?}");
    };
    assert_eq!((&backend.address, backend.connections), (&address, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_callee_may_end_its_side_first() {
    let socket = Socket::new();
    let listener = socket.listen();
    let (lab, _hokkaido, _osaka) = socket.sites().await;
    let mut app = lab.connect().await;
    let mut service = accept(&listener).await;
    service.write_all(b"bye").await.unwrap();
    service.shutdown().await.unwrap();
    let mut all = Vec::new();
    within(app.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"bye");
    app.write_all(b"still here").await.unwrap();
    app.shutdown().await.unwrap();
    let mut all = Vec::new();
    within(service.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"still here");
}

/// A backend that leaves something unread has broken off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_breaks_off_resets_its_caller() {
    let socket = Socket::new();
    let listener = socket.listen();
    let (lab, hokkaido, osaka) = socket.sites().await;
    for ended in [false, true] {
        let mut app = lab.connect().await;
        let mut service = accept(&listener).await;
        app.write_all(b"question").await.unwrap();
        let mut first = [0];
        within(service.read_exact(&mut first)).await.unwrap();
        if ended {
            service.shutdown().await.unwrap();
            assert_eq!(within(app.read(&mut first)).await.unwrap(), 0);
        }
        drop(service);
        match ended {
            false => assert_reset(&mut app).await,
            // Its end of file was there before.
            true => {
                eventually("reset", || {
                    (osaka.open() + hokkaido.open() == 0).then_some(())
                })
                .await;
                let error = app.take_error().unwrap();
                let kind = error.map(|error| error.kind());
                // What the kernel calls a reset behind an end of file.
                assert_eq!(kind, Some(std::io::ErrorKind::BrokenPipe));
            }
        }
    }
}

/// A whole answer stays one when its backend closes its end at once.
#[tokio::test]
async fn a_backend_that_closes_behind_its_answer_resets_nobody() {
    let socket = Socket::new();
    let listener = socket.listen();
    let (lab, hokkaido, _osaka) = socket.sites().await;
    let mut app = lab.connect().await;
    let mut service = accept(&listener).await;
    service.write_all(b"bye").await.unwrap();
    drop(service);
    let mut all = Vec::new();
    within(app.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all, b"bye");
    // Longer than what is waited before a half-open connection is watched.
    lab::time::pass(std::time::Duration::from_secs(5)).await;
    lab::time::settle().await;
    assert_eq!(hokkaido.open(), 1);
    app.shutdown().await.unwrap();
    eventually("closed", || (hokkaido.open() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_every_user_can_connect_to_is_not_used() {
    let socket = Socket::new();
    echo(socket.listen());
    set(&socket.path, 0o777);
    let (lab, hokkaido, _osaka) = socket.sites().await;
    lab.assert_refused().await;
    let sentence = hokkaido.refusal("backend_unavailable").await;
    let path = socket.path.display();
    let reason = "every user of this machine can connect to it, past the mesh (mode 0777)";
    assert!(
        sentence.contains(&format!("unix:{path}: {reason}")),
        "{sentence}"
    );
    assert!(
        sentence.contains(&format!("chmod o-w {path}")),
        "{sentence}"
    );
    let status = hokkaido.proxy.status().await;
    assert!(!status.backends[0].up, "{status:?}");
    // It is looked at again for the next connection.
    set(&socket.path, 0o770);
    ping(&mut lab.connect().await, b"hello").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_that_is_missing_is_used_when_it_is_there() {
    let socket = Socket::new();
    let (lab, hokkaido, _osaka) = socket.sites().await;
    lab.assert_refused().await;
    let sentence = hokkaido.refusal("backend_unavailable").await;
    assert!(sentence.contains("there is no such socket"), "{sentence}");
    echo(socket.listen());
    ping(&mut lab.connect().await, b"hello").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_waits_for_room_in_the_queue_of_a_socket() {
    let socket = Socket::new();
    let listener =
        socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let address = socket2::SockAddr::unix(&socket.path).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    listener.set_nonblocking(true).unwrap();
    set(&socket.path, 0o660);
    let waiting = std::os::unix::net::UnixStream::connect(&socket.path).unwrap();
    let (lab, _hokkaido, _osaka) = socket.sites().await;
    let mut app = lab.connect().await;
    app.write_all(b"hello").await.unwrap();
    // It has no room as long as nobody accepts.
    lab::time::settle().await;
    let listener = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(listener));
    let listener = UnixListener::from_std(listener).unwrap();
    drop(accept(&listener).await);
    drop(waiting);
    echo(listener);
    let mut answer = [0; 5];
    within(app.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"hello");
}
