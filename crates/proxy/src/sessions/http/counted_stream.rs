//! The stream of a session: counts its bytes, and bounds the time that the head of a request may
//! take, but not the time between requests.
//!
//! While a request is answered, HTTP does not read. A caller that has ended its direction then
//! still gets its answer; one that is gone ends the request. To tell them apart the stream is read
//! ahead, up to a bound.

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{linger::Linger, progress::Progress};
use crate::{context::Flow, relay::Transport, wan::WanStream};

/// How much is read ahead at most, and at once.
const AHEAD: usize = 16 * 1024;
const AHEAD_STEP: usize = 4 * 1024;

/// A head of which a part has arrived.
struct Head {
    /// How many requests had begun before it.
    before: u64,
    late: Pin<Box<Sleep>>,
}

pub(super) struct CountedStream {
    stream: WanStream,
    flow: Arc<Flow>,
    progress: Arc<Progress>,
    limit: Duration,
    head: Option<Head>,
    /// What arrived while HTTP did not read.
    ahead: BytesMut,
    /// HTTP waits for bytes.
    reading: bool,
    /// The caller sends no more.
    ended: bool,
    /// This side's direction has ended.
    shut: bool,
    linger: Option<Linger>,
}

impl CountedStream {
    pub(super) fn new(
        stream: WanStream,
        flow: Arc<Flow>,
        progress: Arc<Progress>,
        limit: Duration,
    ) -> Self {
        Self {
            stream,
            flow,
            progress,
            limit,
            head: None,
            ahead: BytesMut::new(),
            reading: false,
            ended: false,
            shut: false,
            linger: None,
        }
    }

    /// Forgets the head that was waited for when its request has begun.
    fn look_at_head(&mut self) {
        let begun = self.progress.begun();
        self.head.take_if(|head| head.before != begun);
    }

    fn received(&mut self, count: usize) {
        self.flow.traffic.add_to_app(count);
        if count > 0 && self.progress.is_idle() && self.head.is_none() {
            self.head = Some(Head {
                before: self.progress.begun(),
                late: Box::pin(tokio::time::sleep(self.limit)),
            });
        }
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let count = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(count));
            return Poll::Ready(Ok(()));
        }
        // Idle connections hold no memory.
        self.ahead = BytesMut::new();
        if self.ended {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }

    /// HTTP has ended without having read all that the caller sent.
    fn has_unread(&mut self) -> bool {
        self.look_at_head();
        !self.ended
            && (self.head.is_some() || self.ahead.has_remaining() || self.progress.has_unread())
    }

    /// Reads ahead while a request that has arrived whole is answered. An error means that the
    /// caller is gone.
    fn look_ahead(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.reading
            && !self.ended
            && self.ahead.len() < AHEAD
            && self.progress.is_answering()
        {
            let mut space = [MaybeUninit::uninit(); AHEAD_STEP];
            let mut buf = ReadBuf::uninit(&mut space);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut buf) else {
                break;
            };
            read?;
            self.ended = buf.filled().is_empty();
            self.ahead.extend_from_slice(buf.filled());
        }
        Ok(())
    }
}

impl Transport for CountedStream {
    fn release(&self) {
        self.stream.release();
    }

    fn undelivered(&self) -> u64 {
        self.stream.undelivered()
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.stream.poll_broken(cx)
    }
}

impl Drop for CountedStream {
    fn drop(&mut self) {
        let failed = self.progress.has_failed() || std::thread::panicking();
        if !failed && !self.flow.cut_token().is_cancelled() {
            self.release();
        }
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.look_at_head();
        let before = buf.filled().len();
        let read = self.poll_stream(cx, buf);
        self.reading = read.is_pending();
        if let Poll::Ready(read) = read {
            self.received(buf.filled().len() - before);
            return Poll::Ready(read);
        }
        if let Some(head) = &mut self.head {
            ready!(head.late.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.flow.traffic.add_to_wan(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.flow.traffic.add_to_wan(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// HTTP flushes whenever it has looked at a request.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look_ahead(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let line = self.as_mut().get_mut();
        let mut shut = Poll::Ready(Ok(()));
        if !line.shut {
            shut = Pin::new(&mut line.stream).poll_shutdown(cx);
            line.shut = matches!(shut, Poll::Ready(Ok(())));
        }
        if line.linger.is_none() && line.has_unread() {
            line.linger = Some(Linger::new());
        }
        let Some(linger) = &mut line.linger else {
            return shut;
        };
        let lingered = match line.ended {
            true => Poll::Ready(()),
            false => linger.poll(cx, &mut line.stream, &mut line.ended),
        };
        match (shut, lingered) {
            (Poll::Ready(Ok(())), Poll::Pending) => Poll::Pending,
            (shut, _) => shut,
        }
    }
}
