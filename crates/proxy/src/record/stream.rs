//! A TLS connection as a stream of bytes, for peers without trunks.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{RECORD, RecordReader, RecordWriter, opener::alert_for};

/// Bytes that one write seals at most.
const BURST: usize = 4 * RECORD;

/// A connection whose peer is verified.
pub(crate) struct TlsStream {
    reader: RecordReader,
    writer: RecordWriter,
    /// What was opened and not read.
    opened: VecDeque<Bytes>,
    /// The peer has ended its direction.
    ended: bool,
    /// This side has ended its direction.
    closed: bool,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsStream(..)")
    }
}

impl TlsStream {
    pub(super) fn new(reader: RecordReader, writer: RecordWriter) -> Self {
        Self {
            reader,
            writer,
            opened: VecDeque::new(),
            ended: false,
            closed: false,
        }
    }

    /// The connection below.
    pub(crate) fn tcp(&self) -> &TcpStream {
        self.reader.tcp()
    }

    /// Takes the next bytes off, about `size` at most, in the memory that they were read into; none
    /// at the clean end.
    pub(crate) fn poll_chunks(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?;
        let mut count = 0;
        while let Some(next) = self.opened.front()
            && (count == 0 || count + next.len() <= size)
        {
            count += next.len();
            chunks.extend(self.opened.pop_front());
        }
        Poll::Ready(Ok(count))
    }

    /// Ready when there are opened bytes, or when none will come.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.opened.is_empty() || self.ended {
            return Poll::Ready(Ok(()));
        }
        match ready!(self.reader.poll_read(cx)) {
            Ok(Some(pieces)) => {
                // Few bytes do not keep much memory alive.
                let copied = pieces.len() < pieces.memory() / 4;
                self.opened
                    .extend(pieces.into_data().map(|data| match copied {
                        true => Bytes::copy_from_slice(&data),
                        false => data,
                    }));
            }
            Ok(None) => self.ended = true,
            Err(error) => {
                let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
                if let Some(alert) = cause.and_then(alert_for) {
                    self.writer.abort(alert);
                }
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Seals the first bytes of `slices`; says how many.
    fn seal(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (mut parts, mut size, mut sealed) = (Vec::with_capacity(slices.len()), 0, 0);
        for slice in slices {
            let mut rest: &[u8] = slice;
            while !rest.is_empty() && sealed < BURST {
                let (part, more) = rest.split_at(rest.len().min(RECORD - size));
                parts.push(part);
                size += part.len();
                rest = more;
                if size == RECORD {
                    self.writer.seal(&parts)?;
                    sealed += size;
                    parts.clear();
                    size = 0;
                }
            }
        }
        if size > 0 {
            self.writer.seal(&parts)?;
        }
        Ok(sealed + size)
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_open(cx))?;
        while let Some(next) = this.opened.front_mut()
            && buf.remaining() > 0
        {
            let part = next.split_to(next.len().min(buf.remaining()));
            buf.put_slice(&part);
            if !next.has_remaining() {
                this.opened.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        ready!(this.writer.poll_flush(cx))?;
        let sealed = this.seal(slices)?;
        match this.writer.write() {
            // What is left goes with the next write or flush.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(sealed)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().writer.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.closed = true;
            this.writer.close_notify()?;
        }
        ready!(this.writer.poll_flush(cx))?;
        Poll::Ready(this.writer.shut_down())
    }
}
