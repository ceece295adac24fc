//! Makes gRPC C-core clients (Python, C++, Ruby) work over a unix socket.
//!
//! Such a client sends the path of the socket, percent-encoded, as the `:authority` of every
//! request. The `h2` crate resets those streams as malformed. This wrapper is between the
//! accepted socket and the HTTP/2 server, passes frames through as they are, and rewrites header
//! blocks so that `:authority` is `localhost`. It is used on unix sockets only, where the
//! authority carries no meaning, and does not touch what the server sends.
//!
//! What comes in is hostile: header blocks are bounded before they are stored, and a stream that
//! is not HTTP/2 ends the connection.

mod block;
mod frames;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use block::BlockError;
pub use frames::FrameError;
use frames::Frames;

/// How much is read from the client at once.
const CHUNK: usize = 8 * 1024;

/// A client's connection whose requests all have the `:authority` `localhost`.
#[derive(Debug)]
pub struct LocalAuthority<S> {
    inner: S,
    frames: Frames,
    rewritten: BytesMut,
}

impl<S> LocalAuthority<S> {
    /// Wraps a connection that has just been accepted.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            frames: Frames::default(),
            rewritten: BytesMut::new(),
        }
    }

    /// The connection without the rewriting, for what the kernel knows of it.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LocalAuthority<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.rewritten.is_empty() {
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.frames
                .push(chunk.filled(), &mut this.rewritten)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        let count = this.rewritten.len().min(buf.remaining());
        buf.put_slice(this.rewritten.get(..count).unwrap_or_default());
        this.rewritten.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LocalAuthority<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
