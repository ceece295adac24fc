//! The stream between two sites: within a trunk, or a TLS session of its own.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    bandwidth::{Flowing, Pace},
    record::{TlsConnection, TlsStream},
    relay::{Breakable, Hangup, Transport},
    sockets::{OnClose, TcpInfo},
    trunk::TrunkStream,
};

/// A verified stream to one peer, at the pace that it is given.
#[derive(Debug)]
pub(crate) struct WanStream {
    carrier: Carrier,
    pace: Pace,
}

#[derive(Debug)]
enum Carrier {
    /// A TLS session of its own: what peers get that know no trunks.
    Session(Box<TlsStream>, Hangup),
    /// A stream of a trunk.
    Trunk(TrunkStream),
}

impl WanStream {
    /// A stream of a trunk.
    pub(crate) fn trunk(stream: TrunkStream) -> Self {
        Self {
            carrier: Carrier::Trunk(stream),
            pace: Pace::default(),
        }
    }

    /// A TLS session of its own. Cut short it has no close_notify, but there are peers that take
    /// a FIN without one for an end: a session that breaks ends with a reset, as plain TCP does.
    pub(crate) fn session(connection: TlsConnection) -> Self {
        let stream = connection.into_stream();
        // On an error the socket is gone already.
        let _ = OnClose::Reset.set(&SockRef::from(stream.tcp()));
        Self {
            carrier: Carrier::Session(Box::new(stream), Hangup::default()),
            pace: Pace::default(),
        }
    }

    /// The same, which carries no more in a second than its pace allows.
    pub(crate) fn at_pace(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }

    /// Puts the names of its trunk and stream, if it has them, into the span of the connection.
    pub(crate) fn record(&self, span: &tracing::Span) {
        if let Carrier::Trunk(stream) = &self.carrier {
            let (trunk, stream) = stream.name();
            span.record("trunk", tracing::field::debug(trunk));
            span.record("stream", stream);
        }
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
        match &self.carrier {
            Carrier::Session(stream, _) => stream.release(),
            Carrier::Trunk(stream) => stream.release(),
        }
    }

    fn cut(&self) {
        match &self.carrier {
            Carrier::Session(stream, _) => stream.cut(),
            Carrier::Trunk(stream) => stream.cut(),
        }
    }

    fn undelivered(&self) -> u64 {
        match &self.carrier {
            Carrier::Session(stream, _) => stream.undelivered(),
            // Dropping it sees to that.
            Carrier::Trunk(_) => 0,
        }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.carrier {
            Carrier::Session(stream, hangup) => hangup.poll(cx, Breakable::Tcp(stream.tcp())),
            Carrier::Trunk(stream) => stream.poll_broken(cx),
        }
    }

    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            Carrier::Session(stream, _) => stream.poll_discard(cx),
            Carrier::Trunk(stream) => {
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
        let size = size.min(ready!(self.pace.poll_part(cx, Flowing::In)));
        let count = ready!(match &mut self.carrier {
            Carrier::Session(stream, _) => stream.poll_read_chunks(cx, size, chunks),
            Carrier::Trunk(stream) => stream.poll_read_chunks(cx, size, chunks),
        })?;
        self.pace.spend(Flowing::In, count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.pace.poll_part(cx, Flowing::Out));
        let count = ready!(match &mut self.carrier {
            Carrier::Session(stream, _) => stream.poll_write_chunks(cx, chunks),
            Carrier::Trunk(stream) => stream.poll_write_chunks(cx, chunks),
        })?;
        self.pace.spend(Flowing::Out, count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for WanStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.pace.poll_part(cx, Flowing::In));
        let before = buf.filled().len();
        ready!(match &mut this.carrier {
            Carrier::Session(stream, _) => Pin::new(stream).poll_read(cx, buf),
            Carrier::Trunk(stream) => Pin::new(stream).poll_read(cx, buf),
        })?;
        this.pace.spend(Flowing::In, buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WanStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let part = buf.len().min(ready!(this.pace.poll_part(cx, Flowing::Out)));
        let buf = buf.get(..part).unwrap_or_default();
        let count = ready!(match &mut this.carrier {
            Carrier::Session(stream, _) => Pin::new(stream).poll_write(cx, buf),
            Carrier::Trunk(stream) => Pin::new(stream).poll_write(cx, buf),
        })?;
        this.pace.spend(Flowing::Out, count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Session(stream, _) => Pin::new(stream).poll_flush(cx),
            Carrier::Trunk(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().carrier {
            Carrier::Session(stream, _) => Pin::new(stream).poll_shutdown(cx),
            Carrier::Trunk(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
