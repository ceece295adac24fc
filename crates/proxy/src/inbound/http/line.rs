//! The stream of a session: counts its bytes, and bounds the time that the head of a request may
//! take, but not the time between requests.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::{flows::Flow, relay::Link, wan::WanStream};

/// What is under way in a session.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bodies and decisions of requests.
    open: AtomicUsize,
    begun: AtomicU64,
    failed: AtomicBool,
}

/// Held by everything that belongs to a request.
#[derive(Debug)]
pub(super) struct Held(Arc<Progress>);

impl Progress {
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.begun.fetch_add(1, Ordering::AcqRel);
        Held(self.clone())
    }

    /// The connection is to end with a reset.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A head of which a part has arrived.
struct Head {
    /// How many requests had begun before it.
    before: u64,
    late: Pin<Box<Sleep>>,
}

pub(super) struct Line {
    stream: WanStream,
    flow: Arc<Flow>,
    progress: Arc<Progress>,
    limit: Duration,
    head: Option<Head>,
}

impl Line {
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
        }
    }

    /// Forgets the head that was waited for when its request has begun.
    fn look_at_head(&mut self) {
        let begun = self.progress.begun.load(Ordering::Acquire);
        self.head.take_if(|head| head.before != begun);
    }

    fn received(&mut self, count: usize) {
        self.flow.traffic.add_to_app(count);
        if count > 0 && self.progress.is_idle() && self.head.is_none() {
            self.head = Some(Head {
                before: self.progress.begun.load(Ordering::Acquire),
                late: Box::pin(tokio::time::sleep(self.limit)),
            });
        }
    }
}

impl Link for Line {
    fn arm_reset(&self) {
        self.stream.arm_reset();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.flow.cut_token().is_cancelled() || self.progress.failed.load(Ordering::Acquire) {
            self.arm_reset();
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.look_at_head();
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
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

impl AsyncWrite for Line {
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
