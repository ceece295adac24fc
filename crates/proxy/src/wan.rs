//! The stream between two sites: within a trunk, or a TLS session of its own.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    record::{TlsConnection, TlsStream},
    relay::{Hangup, Transport},
    sockets::{OnClose, TcpInfo},
    trunk::TrunkStream,
};

/// A verified stream to one peer.
#[derive(Debug)]
pub(crate) enum WanStream {
    /// A TLS session of its own: what peers get that know no trunks.
    Session(Box<TlsStream>, Hangup),
    /// A stream of a trunk.
    Trunk(TrunkStream),
}

impl WanStream {
    /// Puts the names of its trunk and stream, if it has them, into the span of the connection.
    pub(crate) fn record(&self, span: &tracing::Span) {
        if let Self::Trunk(stream) = self {
            let (trunk, stream) = stream.name();
            span.record("trunk", tracing::field::debug(trunk));
            span.record("stream", stream);
        }
    }

    /// A TLS session of its own. Cut short it has no close_notify, but there are peers that take
    /// a FIN without one for an end: a session that breaks ends with a reset, as plain TCP does.
    pub(crate) fn session(connection: TlsConnection) -> Self {
        let stream = connection.into_stream();
        // On an error the socket is gone already.
        let _ = OnClose::Reset.set(&SockRef::from(stream.tcp()));
        Self::Session(Box::new(stream), Hangup::default())
    }
}

impl Transport for TlsStream {
    fn release(&self) {
        // On an error the socket is gone already.
        let _ = OnClose::Finish.set(&SockRef::from(self.tcp()));
    }

    fn undelivered(&self) -> u64 {
        TcpInfo::undelivered(self.tcp())
    }

    fn poll_read_chunks(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        self.poll_chunks(cx, size, chunks)
    }
}

impl Transport for WanStream {
    fn release(&self) {
        match self {
            Self::Session(stream, _) => stream.release(),
            Self::Trunk(stream) => stream.release(),
        }
    }

    fn cut(&self) {
        match self {
            Self::Session(stream, _) => stream.cut(),
            Self::Trunk(stream) => stream.cut(),
        }
    }

    fn undelivered(&self) -> u64 {
        match self {
            Self::Session(stream, _) => stream.undelivered(),
            // Dropping it sees to that.
            Self::Trunk(_) => 0,
        }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self {
            Self::Session(stream, hangup) => hangup.poll(cx, stream.tcp()),
            Self::Trunk(stream) => stream.poll_broken(cx),
        }
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Session(stream, _) => stream.poll_discard(cx),
            Self::Trunk(stream) => {
                stream.stop();
                Poll::Ready(Ok(()))
            }
        }
    }

    fn poll_read_chunks(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Session(stream, _) => stream.poll_read_chunks(cx, size, chunks),
            Self::Trunk(stream) => stream.poll_read_chunks(cx, size, chunks),
        }
    }

    fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Session(stream, _) => stream.poll_write_chunks(cx, chunks),
            Self::Trunk(stream) => stream.poll_write_chunks(cx, chunks),
        }
    }
}

impl AsyncRead for WanStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Session(stream, _) => Pin::new(stream).poll_read(cx, buf),
            Self::Trunk(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for WanStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Session(stream, _) => Pin::new(stream).poll_write(cx, buf),
            Self::Trunk(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Session(stream, _) => Pin::new(stream).poll_flush(cx),
            Self::Trunk(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Session(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Self::Trunk(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
