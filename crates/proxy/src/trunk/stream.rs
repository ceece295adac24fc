//! One application connection within a trunk.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use renkei_trunk::{Code, Read, ResetCause, StreamError, StreamId, TrunkId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    core::{Core, Fate, Waiting},
    driver::{Driver, Release},
};

/// The most that one write hands to the trunk.
const MOST: usize = 128 * 1024;

/// Why the callee's side did not take a stream, in its own words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct StreamRefused {
    pub(crate) code: Code,
    pub(crate) reason: String,
}

/// A stream of a trunk. Dropped before it is released it is reset, behind what was written.
#[derive(Debug)]
pub(crate) struct TrunkStream {
    driver: Arc<Driver>,
    id: StreamId,
    /// The other end may not know of it.
    unannounced: bool,
    finished: bool,
    read_all: bool,
    released: AtomicBool,
    cut: AtomicBool,
}

impl TrunkStream {
    /// One that was opened here, of which the other end does not know.
    pub(super) fn opened(driver: Arc<Driver>, id: StreamId) -> Self {
        let mut stream = Self::accepted(driver, id);
        stream.unannounced = true;
        stream
    }

    /// One that the other end has opened.
    pub(super) fn accepted(driver: Arc<Driver>, id: StreamId) -> Self {
        Self {
            driver,
            id,
            unannounced: false,
            finished: false,
            read_all: false,
            released: AtomicBool::new(false),
            cut: AtomicBool::new(false),
        }
    }

    /// The names of the trunk and of the stream in it, the same at both ends.
    pub(crate) fn name(&self) -> (TrunkId, u64) {
        (self.driver.id(), self.id.number())
    }

    /// Asks the other end to send no more bytes. The other direction continues.
    pub(crate) fn stop(&self) {
        // An error means that its bytes have ended.
        self.driver
            .with(|core, _| core.trunk.stop(self.id, Code::CANCELLED).ok());
    }

    /// Dropping it does not reset it, if both directions have ended.
    pub(crate) fn release(&self) {
        self.released.store(true, Ordering::Relaxed);
    }

    /// Dropping it resets it at once, not behind what was written.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }
}

impl Drop for TrunkStream {
    fn drop(&mut self) {
        let clean = self.finished && self.read_all && self.released.load(Ordering::Relaxed);
        let release = match self.cut.load(Ordering::Relaxed) {
            true => Release::Cut,
            false if clean => Release::Clean,
            false => Release::Reset,
        };
        self.driver.release(self.id, release);
    }
}

/// Why nothing can be written any more.
fn unwritable(waiting: &Waiting) -> io::Error {
    match waiting.fate {
        None if waiting.stopped => io::ErrorKind::BrokenPipe.into(),
        _ => broken(Some(waiting)),
    }
}

fn broken(waiting: Option<&Waiting>) -> io::Error {
    match waiting.and_then(|waiting| waiting.fate.as_ref()) {
        Some(Fate::Refused(code, reason)) => io::Error::other(StreamRefused {
            code: *code,
            reason: reason.clone(),
        }),
        Some(Fate::Reset(ResetCause::Peer(Code::REVOKED))) => io::Error::other(StreamRefused {
            code: Code::REVOKED,
            reason: "the other site cut the connection".into(),
        }),
        _ => io::ErrorKind::ConnectionReset.into(),
    }
}

impl TrunkStream {
    /// The next bytes, about `size` at most, without a copy; none at the end.
    pub(crate) fn poll_read_chunks(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        let id = self.id;
        if self.read_all {
            return Poll::Ready(Ok(0));
        }
        let (count, ended) = ready!(self.driver.with(|core, _| {
            let Core { trunk, streams, .. } = core;
            let waiting = streams.get_mut(&id);
            let over = waiting
                .as_ref()
                .is_none_or(|waiting| waiting.fate.is_some());
            let mut count = 0;
            while count < size {
                match trunk.read(id, size - count) {
                    Ok(Read::Data(data)) => {
                        count += data.len();
                        chunks.push_back(data);
                    }
                    // Said once; those bytes come first.
                    Ok(Read::Finished) => return Poll::Ready(Ok((count, true))),
                    // What came before a reset is read before it.
                    Ok(Read::Pending) if count == 0 && !over => {
                        if let Some(waiting) = waiting {
                            waiting.reader = Some(cx.waker().clone());
                        }
                        return Poll::Pending;
                    }
                    Ok(Read::Pending) | Err(_) if count == 0 => {
                        return Poll::Ready(Err(broken(waiting.as_deref())));
                    }
                    Ok(Read::Pending) | Err(_) => break,
                }
            }
            Poll::Ready(Ok((count, false)))
        }))?;
        self.read_all |= ended;
        Poll::Ready(Ok(count))
    }

    /// Ready when the stream has broken, or its other end, which has sent its last byte, takes no
    /// more. Only once the end has been read.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let id = self.id;
        self.driver.with(|core, _| match core.streams.get_mut(&id) {
            Some(waiting) if waiting.fate.is_none() && !waiting.stopped => {
                waiting.reader = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(waiting) => Poll::Ready(unwritable(waiting)),
            None => Poll::Ready(io::ErrorKind::ConnectionReset.into()),
        })
    }

    /// Hands the first of `chunks` to the trunk, without a copy; says how much that was.
    pub(crate) fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        let id = self.id;
        self.driver.with(|core, _| {
            let Core { trunk, streams, .. } = core;
            let Some(waiting) = streams.get_mut(&id) else {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            };
            if waiting.fate.is_some() || waiting.stopped {
                return Poll::Ready(Err(unwritable(waiting)));
            }
            let mut count = 0;
            while let Some(chunk) = chunks.front_mut() {
                match trunk.write(id, chunk) {
                    Ok(taken) => count += taken,
                    Err(_) => return Poll::Ready(Err(unwritable(waiting))),
                }
                if !chunk.is_empty() {
                    break;
                }
                chunks.pop_front();
            }
            if count == 0 {
                waiting.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(count))
        })
    }
}

impl AsyncRead for TrunkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunks = VecDeque::new();
        ready!(self.poll_read_chunks(cx, buf.remaining(), &mut chunks))?;
        chunks.iter().for_each(|chunk| buf.put_slice(chunk));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TrunkStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let part = buf.get(..buf.len().min(MOST)).unwrap_or_default();
        self.poll_write_chunks(cx, &mut VecDeque::from([Bytes::copy_from_slice(part)]))
    }

    /// What was written is on its way; the first time, so is the word that there is a stream.
    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.unannounced) {
            self.driver.with(|_, _| ());
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the other side has everything: until then the connection counts as open, so
    /// that a process that ends waits for it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (id, first) = (self.id, !self.finished);
        self.finished = true;
        self.driver.with(|core, _| {
            let Core { trunk, streams, .. } = core;
            if first && trunk.finish(id) == Err(StreamError::Unknown) {
                return Poll::Ready(Err(broken(streams.get(&id))));
            }
            match streams.get_mut(&id) {
                Some(waiting) if waiting.fate.is_some() || waiting.stopped => {
                    Poll::Ready(Err(unwritable(waiting)))
                }
                Some(waiting) if !trunk.delivered(id) => {
                    waiting.writer = Some(cx.waker().clone());
                    Poll::Pending
                }
                _ => Poll::Ready(Ok(())),
            }
        })
    }
}
