//! The socket of a connection to a backend.
//!
//! A backend may answer before it has read the request, and close. What is on its way to it then
//! fails, but the answer has arrived: a failed write is kept back until the answer has been read.
//! A backend that takes nothing and sends nothing for too long is given up.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::head_reader::{HeadReader, ResponseHead};
use crate::sockets::PlainStream;

/// What a connection has carried, for those that do not own its socket.
#[derive(Debug, Default)]
pub(super) struct Carried {
    sent: AtomicU64,
    received: AtomicU64,
    stalled: AtomicBool,
    /// The head of the response that comes.
    pub(super) head: ResponseHead,
}

impl Carried {
    /// Bytes that the system took.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    /// Bytes that came back.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// The backend was given up because it took nothing.
    pub(super) fn has_stalled(&self) -> bool {
        self.stalled.load(Ordering::Acquire)
    }
}

pub(super) struct BackendSocket {
    stream: PlainStream,
    carried: Arc<Carried>,
    reader: HeadReader,
    /// How long the backend may take nothing and send nothing while there is something to send.
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// A write failed, or would.
    unwritable: bool,
    /// What was written last has been answered, so that the backend may have closed since.
    answered: bool,
}

impl BackendSocket {
    pub(super) fn new(stream: PlainStream, carried: Arc<Carried>, limit: Duration) -> Self {
        Self {
            stream,
            carried,
            reader: HeadReader::default(),
            limit,
            stalled: None,
            unwritable: false,
            answered: false,
        }
    }

    /// The stream below, and what has been read of it and not been passed on.
    pub(super) fn into_parts(self) -> (PlainStream, BytesMut) {
        (self.stream, self.reader.into_held())
    }

    /// Whether something may be written. A backend that has closed a kept connection is not
    /// written to: the request is unharmed then, and may go out over another connection.
    fn is_writable(&mut self, cx: &mut Context<'_>) -> bool {
        if std::mem::take(&mut self.answered) && !self.unwritable && self.stream.is_closed() {
            self.set_unwritable(cx);
        }
        !self.unwritable
    }

    /// Reading comes to its end soon, and ends the connection.
    fn set_unwritable(&mut self, cx: &mut Context<'_>) {
        self.unwritable = true;
        cx.waker().wake_by_ref();
    }

    fn poll_wrote(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => {
                self.carried.sent.fetch_add(count as u64, Ordering::AcqRel);
                self.stalled = None;
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(_)) => {
                self.set_unwritable(cx);
                Poll::Pending
            }
            Poll::Pending => {
                let late = || Box::pin(tokio::time::sleep(self.limit));
                ready!(self.stalled.get_or_insert_with(late).as_mut().poll(cx));
                self.carried.stalled.store(true, Ordering::Release);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncRead for BackendSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let socket = self.as_mut().get_mut();
        let head = &socket.carried.head;
        ready!(socket.reader.poll_read(cx, &mut socket.stream, (buf, head)))?;
        let count = buf.filled().len() - before;
        if count == 0 {
            return Poll::Ready(Ok(()));
        }
        let received = &self.carried.received;
        received.fetch_add(count as u64, Ordering::AcqRel);
        self.stalled = None;
        self.answered = true;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for BackendSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.is_writable(cx) {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.poll_wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
