//! A proxy that dies, and what applications take it for: never for an end of their bytes.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod lab;

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use lab::{SOON, serve, two_sites};
use renkei_testkit::wait_for;

/// Longer than a trunk waits for its way to come back.
const GRACE: Duration = Duration::from_secs(120);
const PART: usize = 1_000_000;

/// Reads to the end: how many bytes came, and how it ended.
fn drain(stream: &mut TcpStream) -> (usize, io::Result<()>) {
    stream.set_read_timeout(Some(GRACE)).expect("timeout");
    let (mut buffer, mut total) = (vec![0; 65_536], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (total, Ok(())),
            Ok(count) => total += count,
            Err(error) => return (total, Err(error)),
        }
    }
}

fn assert_reset(who: &str, stream: &mut TcpStream) {
    let (_, end) = drain(stream);
    let kind = end.as_ref().map_err(io::Error::kind);
    assert_eq!(kind, Err(ErrorKind::ConnectionReset), "{who}");
}

/// Which transfer ended at the backend, and how.
type Ended = (u8, Result<usize, ErrorKind>);

/// A backend in the middle of a transfer: it sends a part to those that begin with `d`, and a byte
/// to all others, then takes what comes. Reports how each connection ended.
fn backend() -> (SocketAddr, Receiver<Ended>) {
    let (tell, told) = channel();
    let address = serve(move |mut stream| {
        let mut kind = [0];
        if stream.read_exact(&mut kind).is_err() {
            return;
        }
        let greeting = match &kind {
            b"d" => vec![7; PART],
            _ => vec![7],
        };
        let sent = stream.write_all(&greeting);
        let (count, end) = match sent {
            Ok(()) => drain(&mut stream),
            Err(error) => (0, Err(error)),
        };
        if kind == *b"h" && end.is_ok() {
            // The request is whole, and its answer never ends.
            let _ = stream.write_all(b"x");
            loop {
                std::thread::park();
            }
        }
        let _ = tell.send((kind[0], end.map(|()| count).map_err(|error| error.kind())));
    });
    (address, told)
}

/// The applications of three transfers that are under way: a download, an upload, and a request
/// that was sent whole and waits for its answer.
fn under_way(local: SocketAddr) -> [(&'static str, TcpStream); 3] {
    let open = |kind: &[u8]| {
        let mut stream = TcpStream::connect(local).expect("connected");
        stream.write_all(kind).expect("written");
        stream
    };
    let mut download = open(b"d");
    download.read_exact(&mut vec![0; PART / 2]).expect("a part");
    let mut upload = open(b"u");
    upload.write_all(&vec![7; PART]).expect("a part");
    upload.read_exact(&mut [0]).expect("it is taken");
    let mut half = open(b"h");
    half.shutdown(Shutdown::Write).expect("shut down");
    half.read_exact(&mut [0; 2]).expect("the answer begins");
    [
        ("download", download),
        ("upload", upload),
        ("half-closed", half),
    ]
}

#[test]
fn applications_are_reset_when_the_callers_proxy_is_killed() {
    let (address, told) = backend();
    let (_hokkaido, mut osaka, local) = two_sites(address);
    let apps = under_way(local);
    osaka.process().kill();
    for (who, mut app) in apps {
        assert_reset(who, &mut app);
    }
    // The other site waits for the trunk to come back, then gives up.
    let mut ends: Vec<_> = (0..2)
        .map(|_| told.recv_timeout(GRACE).expect("an end"))
        .collect();
    ends.sort_by_key(|(kind, _)| *kind);
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(ends, [(b'd', reset), (b'u', reset)]);
}

#[test]
fn applications_are_reset_when_the_callees_proxy_is_killed() {
    let (address, told) = backend();
    let (mut hokkaido, _osaka, local) = two_sites(address);
    let apps = under_way(local);
    hokkaido.process().kill();
    let mut ends: Vec<_> = (0..2)
        .map(|_| told.recv_timeout(SOON).expect("an end"))
        .collect();
    ends.sort_by_key(|(kind, _)| *kind);
    let reset = Err(ErrorKind::ConnectionReset);
    assert_eq!(ends, [(b'd', reset), (b'u', reset)]);
    // What comes back in its place knows nothing of the connections.
    hokkaido.start();
    for (who, mut app) in apps {
        assert_reset(who, &mut app);
    }
}

#[test]
fn applications_are_reset_when_a_proxy_is_killed_while_it_drains() {
    let (address, _told) = backend();
    let (_hokkaido, mut osaka, local) = two_sites(address);
    let apps = under_way(local);
    osaka.process().signal("TERM");
    wait_for("the listener closes", SOON, || {
        TcpStream::connect(local).is_err().then_some(())
    });
    osaka.process().kill();
    for (who, mut app) in apps {
        assert_reset(who, &mut app);
    }
}

#[test]
fn an_application_whose_way_is_still_being_looked_for_is_reset_too() {
    let (address, _told) = backend();
    let (hokkaido, mut osaka, local) = two_sites(address);
    // A gateway that takes connections and says nothing.
    let (tell, dialed) = channel();
    let silent = serve(move |mut stream| {
        let _ = tell.send(());
        let _ = drain(&mut stream);
    });
    let text = lab::caller(&osaka, &hokkaido, local);
    let elsewhere = text.replace(
        &format!("gateway: {}", hokkaido.gateway),
        &format!("gateway: {silent}"),
    );
    assert_ne!(text, elsewhere);
    osaka.write(&elsewhere);
    assert!(osaka.apply().status.success());
    let mut app = TcpStream::connect(local).expect("connected");
    app.write_all(b"d").expect("written");
    dialed.recv_timeout(SOON).expect("the gateway is dialled");
    osaka.process().kill();
    let error = app.read(&mut [0]).expect_err("no end, and no bytes");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_clean_end_is_one_though_the_reader_comes_late() {
    const WHOLE: usize = 3_000_000;
    let address = serve(|mut stream| {
        let (count, end) = drain(&mut stream);
        if end.is_ok() && count == 1 {
            let _ = stream.write_all(&vec![7; WHOLE]);
        }
    });
    let (hokkaido, osaka, local) = two_sites(address);
    let mut app = TcpStream::connect(local).expect("connected");
    app.write_all(b"x").expect("written");
    app.shutdown(Shutdown::Write).expect("shut down");
    // Nobody reads, and what the proxy has closed is still to be delivered by the kernel.
    wait_for("both proxies are done with it", SOON, || {
        let done = |site: &lab::Site| {
            let total = site.status()["proxy"]["totals"][0].clone();
            total["open"] == 0 && total["connections"] == 1
        };
        (done(&osaka) && done(&hokkaido)).then_some(())
    });
    let (count, end) = drain(&mut app);
    assert_eq!((count, end.map_err(|error| error.kind())), (WHOLE, Ok(())));
}

#[test]
fn a_backend_that_is_killed_resets_its_caller_and_one_that_ends_does_not() {
    let address = serve(|mut stream| {
        let mut kind = [0];
        let _ = stream.read_exact(&mut kind);
        let _ = stream.write_all(b"part");
        if kind == *b"k" {
            // What the kernel does for a process that dies with bytes unread.
            let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
        }
    });
    let (_hokkaido, _osaka, local) = two_sites(address);
    for (kind, expected) in [(b"k", Err(ErrorKind::ConnectionReset)), (b"e", Ok(()))] {
        let mut app = TcpStream::connect(local).expect("connected");
        app.write_all(kind).expect("written");
        let (count, end) = drain(&mut app);
        assert_eq!((count, end.map_err(|error| error.kind())), (4, expected));
    }
}
