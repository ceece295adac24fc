//! Plain connections, with applications and backends, where a FIN is all that distinguishes a whole
//! transfer from half of one.
//!
//! When a process dies, the kernel closes its sockets with a FIN. So these sockets are set to end
//! with a reset (`SO_LINGER` of 0, socket(7)) before they carry anything: accepted ones inherit
//! it from their listener, others have it before they connect. It is taken back when both
//! directions have ended cleanly, and only then: with it, closing throws away what waits to be
//! sent, behind a FIN too. The FIN of one direction needs nothing: `shutdown` is not `close`.
//!
//! A unix socket has no reset (unix(7)). When one end closes, the other reads what was sent, then
//! an end of file, and can write no more; only a process that left something unread is taken for
//! one that broke off. Nothing here can change that.
//!
//! TLS on its own needs none of this (RFC 8446 6.1): without a close_notify it is no end, to
//! peers that look. See [`WanStream`](crate::wan::WanStream) for those that do not.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::TcpInfo;
use crate::relay::{Breakable, Hangup, Transport};

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

/// The socket of a connection.
#[derive(Debug)]
pub(crate) enum PlainSocket {
    Tcp(TcpStream),
    /// Of a backend.
    Unix(UnixStream),
}

impl PlainSocket {
    fn socket(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        }
    }
}

impl From<TcpStream> for PlainSocket {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<UnixStream> for PlainSocket {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

/// Runs a poll of the stream within.
macro_rules! forward {
    ($self:ident, $poll:ident, $cx:ident $(, $argument:expr)*) => {
        match &mut $self.stream {
            PlainSocket::Tcp(stream) => Pin::new(stream).$poll($cx $(, $argument)*),
            PlainSocket::Unix(stream) => Pin::new(stream).$poll($cx $(, $argument)*),
        }
    };
}

/// A plain connection that is reset when it is closed before its [`release`](Transport::release).
#[derive(Debug)]
pub(crate) struct PlainStream {
    stream: PlainSocket,
    /// The kernel reports a reset once, to the first call that asks, and calls what follows an end of
    /// file. So what a write or a look has found is kept for the reader.
    broken: Option<io::ErrorKind>,
    hangup: Hangup,
}

impl PlainStream {
    /// One that was accepted or dialled with [`OnClose::Reset`].
    pub(crate) fn new(stream: impl Into<PlainSocket>) -> Self {
        Self {
            stream: stream.into(),
            broken: None,
            hangup: Hangup::default(),
        }
    }

    /// One that was to end with a FIN so far.
    pub(crate) fn armed(stream: TcpStream) -> Self {
        let stream = Self::new(stream);
        stream.arm();
        stream
    }

    /// From now on it is reset when it is closed before its release.
    pub(crate) fn arm(&self) {
        self.on_close(OnClose::Reset);
    }

    fn on_close(&self, on_close: OnClose) {
        if let PlainSocket::Tcp(stream) = &self.stream {
            // On an error the socket is gone already.
            let _ = on_close.set(&SockRef::from(stream));
        }
    }

    /// Whether the other end has closed or reset the connection and nothing is left to read. The
    /// system knows of it before the runtime does.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.socket().peek(&mut [MaybeUninit::uninit()]) {
            Ok(count) => count == 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => {
                self.broken = Some(error.kind());
                true
            }
        }
    }

    /// A write that fails with EPIPE has found a FIN before the reset; any other has not.
    fn written<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            self.broken.get_or_insert(error.kind());
        }
        result
    }
}

impl Transport for PlainStream {
    fn release(&self) {
        self.on_close(OnClose::Finish);
    }

    fn undelivered(&self) -> u64 {
        match &self.stream {
            PlainSocket::Tcp(stream) => TcpInfo::undelivered(stream),
            // What was sent reaches the other end, even if this end closes.
            PlainSocket::Unix(_) => 0,
        }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let socket = match &self.stream {
            PlainSocket::Tcp(stream) => Breakable::Tcp(stream),
            PlainSocket::Unix(stream) => Breakable::Unix(stream),
        };
        self.hangup.poll(cx, socket)
    }
}

impl AsyncRead for PlainStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(forward!(self, poll_read, cx, buf))?;
        match self.broken {
            Some(kind) if buf.filled().len() == before => Poll::Ready(Err(kind.into())),
            _ => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for PlainStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(forward!(self, poll_write, cx, buf));
        Poll::Ready(self.written(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(forward!(self, poll_write_vectored, cx, bufs));
        Poll::Ready(self.written(written))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            PlainSocket::Tcp(stream) => stream.is_write_vectored(),
            PlainSocket::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_shutdown, cx)
    }
}
