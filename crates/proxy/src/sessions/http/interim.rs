//! Interim responses (RFC 9110 15.2) on their way to the caller: 102, 103 and what may come. The
//! server of HTTP sends none by itself, so they are written below it, between two of its messages.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use futures_util::task::AtomicWaker;
use hyper::{HeaderMap, StatusCode};
use tokio::io::AsyncWrite;

/// How much may wait. What a backend sends beyond it is left out: every interim response may be
/// missed.
const ROOM: usize = 64 * 1024;

/// What waits to be written.
#[derive(Debug, Default)]
pub(super) struct Interim {
    waiting: Mutex<Waiting>,
    /// Of what writes it.
    writer: AtomicWaker,
    /// Of what waits until it is written.
    written: AtomicWaker,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: BytesMut,
    /// A request is under way that takes them.
    wanted: bool,
}

impl Interim {
    /// A request begins whose caller takes interim responses.
    pub(super) fn begin(&self) {
        self.waiting().wanted = true;
    }

    /// An interim response, without what is about a connection.
    pub(super) fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let mut waiting = self.waiting();
        let length = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 4);
        if !waiting.wanted || waiting.bytes.len() + length.sum::<usize>() + 64 > ROOM {
            return;
        }
        let bytes = &mut waiting.bytes;
        let reason = status.canonical_reason().unwrap_or_default();
        bytes.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
        for (name, value) in headers {
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        drop(waiting);
        self.writer.wake();
    }

    /// The response is there: waits until all that came before it is written.
    pub(super) async fn finish(&self) {
        self.waiting().wanted = false;
        poll_fn(|cx| {
            self.written.register(cx.waker());
            match self.waiting().bytes.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Writes what waits, and reports every part to `wrote`. To be called only between two messages.
    pub(super) fn poll_write<S: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        stream: &mut S,
        wrote: impl Fn(usize),
    ) -> Poll<std::io::Result<()>> {
        self.writer.register(cx.waker());
        let mut waiting = self.waiting();
        if waiting.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while waiting.bytes.has_remaining() {
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, &waiting.bytes))?;
            waiting.bytes.advance(count);
            wrote(count);
        }
        waiting.bytes = BytesMut::new();
        drop(waiting);
        self.written.wake();
        Poll::Ready(Ok(()))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
