//! Carries the bytes of one connection between an application's socket and the stream to the
//! other site, until both directions have ended.
//!
//! - A clean end of one direction (FIN, close_notify) ends that direction on the other side, and
//!   nothing else: half-open connections are legal, for hours.
//! - Anything else (a reset, a TLS session cut short, a cancellation) resets both sides. It is
//!   never passed on as a clean end, so that half a file is never taken for a whole one.
//! - A reset is passed on behind a clean end too, also while the other direction is idle.
//! - A side that takes no more bytes may have said something: a backend that answers 413 and
//!   closes. That is read to its end, and its reader gets all of it before it is reset.
//! - A direction reads only what it can write: the back-pressure of the receiver reaches the
//!   sender. Memory is used only while bytes are in transit.

pub(crate) mod buffers;
mod deliver;
mod hangup;
mod pump;

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::{io::poll_read_buf, sync::CancellationToken};

use bytes::{Buf, Bytes, BytesMut};
use pump::{LARGE, Pump, Stop};

use buffers::Pool;

pub(crate) use deliver::StallTimeout;
pub(crate) use hangup::{Breakable, Hangup};

/// Pieces of one vectored write.
const SLICES: usize = 16;
/// What is read at once only to be dropped, and how often before others have their turn.
const UNWANTED: usize = 8 * 1024;
const UNWANTED_ROUNDS: usize = 16;

/// Bytes of a DATA frame that fills a record of TLS: reading so much at once leaves no record of a
/// trunk half full.
pub(crate) const FULL_FRAME: usize = 16 * 1024 - 20;
/// What a busy connection is read into.
pub(crate) static READS: Pool = Pool::new(LARGE);

/// A stream whose connection ends with a reset, whatever closes it: an error, a panic, the death
/// of the process.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Both directions have ended cleanly: closing the connection is no reset any more.
    fn release(&self);

    /// The connection lost its right: what still waits is not sent either.
    fn cut(&self) {}

    /// Grows smaller while the other end takes what was sent, down to nothing; or nothing, where
    /// closing the connection waits for that.
    fn undelivered(&self) -> u64 {
        0
    }

    /// Ready when the connection has broken. Once its receiving direction has ended, reads do not
    /// tell. The default waits for the next write to fail.
    fn poll_broken(&mut self, _cx: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }

    /// Takes and drops what comes, up to the end, or asks the sender to stop.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut unwanted = [MaybeUninit::uninit(); UNWANTED];
        for _ in 0..UNWANTED_ROUNDS {
            let mut unwanted = ReadBuf::uninit(&mut unwanted);
            ready!(Pin::new(&mut *self).poll_read(cx, &mut unwanted))?;
            if unwanted.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads the next bytes, about `size` at most, behind those in `chunks`; none at the end.
    fn poll_read_chunks(
        &mut self,
        cx: &mut Context<'_>,
        size: usize,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        let mut chunk = READS.take(size);
        let read = poll_read_buf(Pin::new(self), cx, &mut chunk);
        let chunk = READS.lend(chunk);
        let count = ready!(read)?;
        chunks.push_back(frugal(chunk, size));
        Poll::Ready(Ok(count))
    }

    /// Writes the first bytes of `chunks` and takes them off; says how many that were.
    fn poll_write_chunks(
        &mut self,
        cx: &mut Context<'_>,
        chunks: &mut VecDeque<Bytes>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(&*chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let written = ready!(Pin::new(self).poll_write_vectored(cx, slices))?;
        take_off(chunks, written);
        Poll::Ready(Ok(written))
    }
}

/// Bytes that fill less than a quarter of their memory move to memory of their own.
fn frugal(chunk: Bytes, memory: usize) -> Bytes {
    match chunk.len() < memory / 4 {
        true => Bytes::copy_from_slice(&chunk),
        false => chunk,
    }
}

fn take_off(chunks: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(chunk) = chunks.front_mut() {
        let part = written.min(chunk.len());
        chunk.advance(part);
        written -= part;
        if chunk.has_remaining() {
            break;
        }
        chunks.pop_front();
    }
}

/// Follows the bytes of a connection and may change them on their way. One that only carries
/// bytes has none.
pub trait Session: Send {
    /// Takes out of `received`, which came from the side given, what the other side is to get,
    /// and puts that to `out`. What it leaves is shown again with more behind it. An error
    /// resets the connection, behind what is in `out`.
    fn advance(
        &mut self,
        from: Side,
        received: &mut BytesMut,
        out: &mut Vec<Bytes>,
    ) -> io::Result<Next>;

    /// Ready when it can take more bytes from a side. Nothing is read before. An error resets the
    /// connection.
    fn poll_room(&mut self, _from: Side, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What becomes of a connection after a step of its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It is carried further.
    More,
    /// Both sides get what was put out for them, and a clean end.
    Close,
    /// The same, and the side whose bytes these were gets an answer.
    Refuse(Bytes),
}

/// Bytes carried so far, readable at any time.
#[derive(Debug, Default)]
pub struct Traffic {
    to_wan: AtomicU64,
    to_app: AtomicU64,
}

impl Traffic {
    /// Bytes from the application to the other site.
    pub fn to_wan(&self) -> u64 {
        self.to_wan.load(Ordering::Relaxed)
    }

    /// Bytes from the other site to the application.
    pub fn to_app(&self) -> u64 {
        self.to_app.load(Ordering::Relaxed)
    }

    pub(crate) fn add_to_wan(&self, count: usize) {
        self.to_wan.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn add_to_app(&self, count: usize) {
        self.to_app.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// One of the two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The application's socket.
    App,
    /// The stream to the other site.
    Wan,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::App => Self::Wan,
            Self::Wan => Self::App,
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub enum End {
    /// Both directions ended cleanly.
    Clean,
    /// One side broke; both were reset.
    Broken {
        /// The side that broke.
        side: Side,
        /// What the system or TLS said.
        error: io::Error,
    },
    /// Its session closed it; both ended cleanly.
    Closed,
    /// This side cut it; both were reset.
    Cut,
}

/// Carries bytes both ways until the end. Both streams are closed when it returns.
pub async fn relay<A: Transport, W: Transport>(
    mut app: A,
    mut wan: W,
    mut session: Option<Box<dyn Session>>,
    traffic: &Traffic,
    cut: &CancellationToken,
) -> End {
    let mut pumps = (Pump::from(Side::App), Pump::from(Side::Wan));
    let carried = async {
        let carry = |cx: &mut Context<'_>| {
            poll_both(cx, &mut app, &mut wan, &mut session, &mut pumps, traffic)
        };
        let end = match poll_fn(carry).await {
            Ok(()) => return End::Clean,
            Err(Stop::Broken(side, error)) => End::Broken { side, error },
            Err(Stop::Closed) => {
                pumps.0.close();
                pumps.1.close();
                End::Closed
            }
            Err(Stop::Refused(from, answer)) => {
                let back = match from {
                    Side::App => &mut pumps.1,
                    Side::Wan => &mut pumps.0,
                };
                back.put(answer);
                pumps.0.close();
                pumps.1.close();
                End::Closed
            }
        };
        deliver::deliver(&mut app, &mut wan, &mut pumps, traffic).await;
        end
    };
    let end = tokio::select! {
        biased;
        () = cut.cancelled() => End::Cut,
        end = carried => end,
    };
    match end {
        End::Clean | End::Closed => {
            app.release();
            wan.release();
        }
        End::Broken { .. } => {}
        End::Cut => {
            app.cut();
            wan.cut();
        }
    }
    end
}

fn poll_both<A: Transport, W: Transport>(
    cx: &mut Context<'_>,
    app: &mut A,
    wan: &mut W,
    session: &mut Option<Box<dyn Session>>,
    (outward, inward): &mut (Pump, Pump),
    traffic: &Traffic,
) -> Poll<Result<(), Stop>> {
    let out = outward.poll(cx, app, wan, session, &traffic.to_wan)?;
    let back = inward.poll(cx, wan, app, session, &traffic.to_app)?;
    // A side that sends no more can still break while the other rests.
    if back.is_pending()
        && outward.has_read_all()
        && let Poll::Ready(error) = app.poll_broken(cx)
    {
        return Poll::Ready(Err(Stop::Broken(Side::App, error)));
    }
    if out.is_pending()
        && inward.has_read_all()
        && let Poll::Ready(error) = wan.poll_broken(cx)
    {
        return Poll::Ready(Err(Stop::Broken(Side::Wan, error)));
    }
    if out.is_pending() || back.is_pending() {
        return Poll::Pending;
    }
    let refused = outward.take_refusal().or_else(|| inward.take_refusal());
    Poll::Ready(refused.map_or(Ok(()), Err))
}

#[cfg(test)]
mod tests;
