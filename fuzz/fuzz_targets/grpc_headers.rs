//! What a workload sends to the Workload API's socket, HTTP/2 frames and HPACK, before the gRPC
//! server reads it: no panic, the same however it is cut, and header blocks that no longer change.
//!
//! The first byte is the size of pieces.

#![no_main]

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use libfuzzer_sys::fuzz_target;
use renkei_grpc::compat::LocalAuthority;
use tokio::io::{AsyncRead, ReadBuf};

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else {
        return;
    };
    let (whole, end) = pass(bytes, usize::MAX);
    let (pieces, other_end) = pass(bytes, 1 + usize::from(*size));
    assert_eq!(end, other_end);
    if end.is_some() {
        // The connection ends; how much of it came before is chance.
        return;
    }
    assert_eq!(whole, pieces);
    let (again, _) = pass(&whole, usize::MAX);
    assert_eq!(again, whole, "what was rewritten changes again");
});

/// What the server would read, and why it would read no more.
fn pass(bytes: &[u8], size: usize) -> (Vec<u8>, Option<String>) {
    let mut stream = LocalAuthority::new(Pieces(bytes, size));
    let mut cx = Context::from_waker(Waker::noop());
    let (mut read, mut space) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let mut buf = ReadBuf::new(&mut space);
        match Pin::new(&mut stream).poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(())) if buf.filled().is_empty() => return (read, None),
            Poll::Ready(Ok(())) => read.extend_from_slice(buf.filled()),
            Poll::Ready(Err(error)) => return (read, Some(error.to_string())),
            Poll::Pending => unreachable!("the bytes are there"),
        }
    }
}

/// Bytes that arrive in pieces.
struct Pieces<'a>(&'a [u8], usize);

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.1.min(self.0.len()).min(buf.remaining());
        let (piece, rest) = self.0.split_at(count);
        buf.put_slice(piece);
        self.0 = rest;
        Poll::Ready(Ok(()))
    }
}
