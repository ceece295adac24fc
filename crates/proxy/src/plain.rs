//! Plain TCP connections, with applications and backends, where a FIN is all that tells a whole
//! transfer from half of one.
//!
//! When a process dies, the kernel closes its sockets with a FIN. So these sockets are set to end
//! with a reset (`SO_LINGER` of 0, socket(7)) before they carry anything: accepted ones inherit
//! it from their listener, others have it before they connect. It is taken back when both
//! directions have ended cleanly, and only then: with it, closing throws away what waits to be
//! sent, behind a FIN too. The FIN of one direction needs nothing: `shutdown` is not `close`.
//!
//! TLS on its own needs none of this (RFC 8446 6.1): without a close_notify it is no end, to
//! peers that look. See [`WanStream`](crate::wan::WanStream) for those that do not.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::relay::Link;

/// What the kernel does with a connection that is closed, by this process or by its death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnClose {
    /// It sends what waits, then a FIN.
    Finish,
    /// It resets the connection.
    Reset,
}

impl OnClose {
    /// Of a socket, or of every connection that a listener will accept.
    pub(crate) fn set(self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_linger((self == Self::Reset).then_some(Duration::ZERO))
    }
}

/// A plain connection that is reset when it is closed before its [`release`](Link::release).
#[derive(Debug)]
pub(crate) struct PlainStream(TcpStream);

impl PlainStream {
    /// One that was accepted or dialled with [`OnClose::Reset`].
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    /// One that was to end with a FIN so far.
    pub(crate) fn armed(stream: TcpStream) -> Self {
        // On an error the socket is gone already.
        let _ = OnClose::Reset.set(&SockRef::from(&stream));
        Self(stream)
    }
}

impl Link for PlainStream {
    fn release(&self) {
        // On an error the socket is gone already.
        let _ = OnClose::Finish.set(&SockRef::from(&self.0));
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
