//! The first bytes of a connection to the gateway: no panic, and what is passed on is what came.

#![no_main]

use std::{
    io::Write,
    net::{Shutdown, TcpListener, TcpStream},
    sync::LazyLock,
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use renkei_proxy::fuzzing;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime")
});
static LISTENER: LazyLock<TcpListener> =
    LazyLock::new(|| TcpListener::bind("127.0.0.1:0").expect("listener"));

fuzz_target!(|input: &[u8]| {
    let address = LISTENER.local_addr().expect("address");
    let mut peer = TcpStream::connect(address).expect("connected");
    // A reset at the end leaves no port in TIME_WAIT.
    let socket = socket2::SockRef::from(&peer);
    socket.set_linger(Some(Duration::ZERO)).expect("linger");
    let (stream, from) = LISTENER.accept().expect("accepted");
    stream.set_nonblocking(true).expect("non-blocking");
    // More than this the gateway does not read; it fits the buffers of the two sockets.
    let sent = input.get(..64 * 1024).unwrap_or(input);
    peer.write_all(sent).expect("written");
    peer.shutdown(Shutdown::Write).expect("shut down");
    let read = RUNTIME.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream).expect("stream");
        fuzzing::client_hello(stream, from).await
    });
    if let Some(read) = read {
        assert!(sent.starts_with(&read));
    }
});
