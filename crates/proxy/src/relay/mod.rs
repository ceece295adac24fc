//! Carries the bytes of one connection between an application's socket and the stream to the
//! other site, until both directions have ended.
//!
//! - A clean end of one direction (FIN, close_notify) ends that direction on the other side, and
//!   nothing else: half-open connections are legal, for hours.
//! - Anything else (a reset, a TLS session cut short, a cancellation) resets both sides. It is
//!   never passed on as a clean end, so that nobody takes half a file for a whole one.
//! - A direction reads only what it can write: the back-pressure of the receiver reaches the
//!   sender. Memory is held only while bytes are under way.

mod pump;

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::timeout,
};
use tokio_util::{io::poll_read_buf, sync::CancellationToken};

use bytes::{Buf, Bytes, BytesMut};
use pump::{LARGE, Pump};

use crate::memory::Pool;

/// Pieces of one vectored write.
const SLICES: usize = 16;
/// How much of a broken stream is read in search of the reason, and how long that may take.
const LAST_BYTES: usize = 64 * 1024;
const LAST_TIME: Duration = Duration::from_secs(1);

/// What a busy connection is read into.
static READS: Pool = Pool::new(LARGE);

/// A stream whose connection ends with a reset, whatever closes it: an error, a panic, the death
/// of the process.
pub trait Link: AsyncRead + AsyncWrite + Unpin {
    /// Both directions have ended cleanly: closing the connection is no reset any more.
    fn release(&self);

    /// The connection lost its right: what still waits is not sent either.
    fn cut(&self) {}

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
    /// resets the connection.
    fn advance(
        &mut self,
        from: Side,
        received: &mut BytesMut,
        out: &mut Vec<Bytes>,
    ) -> io::Result<()>;
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
        /// Where.
        side: Side,
        /// What the system or TLS said.
        error: io::Error,
    },
    /// Somebody here cut it; both were reset.
    Cut,
}

/// Carries bytes both ways until the end. Both streams are closed when it returns.
pub async fn relay<A: Link, W: Link>(
    mut app: A,
    mut wan: W,
    mut session: Option<Box<dyn Session>>,
    traffic: &Traffic,
    cut: &CancellationToken,
) -> End {
    let mut pumps = (Pump::from(Side::App), Pump::from(Side::Wan));
    let carry = poll_fn(|cx| poll_both(cx, &mut app, &mut wan, &mut session, &mut pumps, traffic));
    let end = tokio::select! {
        biased;
        () = cut.cancelled() => End::Cut,
        result = carry => match result {
            Ok(()) => End::Clean,
            Err((side @ Side::Wan, error)) if is_of_the_system(&error) => {
                let error = last_word(&mut wan).await.unwrap_or(error);
                End::Broken { side, error }
            }
            Err((side, error)) => End::Broken { side, error },
        },
    };
    match end {
        End::Clean => {
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

/// What a stream that broke while it was written to had still said: a peer that refuses sends an
/// alert and closes at once, and what is on its way to it then fails first. A broken socket is
/// readable to its end; the wait is for the runtime to notice.
async fn last_word<W: Link>(wan: &mut W) -> Option<io::Error> {
    let mut unwanted = vec![0; LAST_BYTES];
    let mut unwanted = ReadBuf::new(&mut unwanted);
    let said = poll_fn(|cx| {
        loop {
            let before = unwanted.filled().len();
            match ready!(Pin::new(&mut *wan).poll_read(cx, &mut unwanted)) {
                Ok(()) if unwanted.filled().len() > before => {}
                Ok(()) => return Poll::Ready(None),
                Err(error) => return Poll::Ready((!is_of_the_system(&error)).then_some(error)),
            }
        }
    });
    timeout(LAST_TIME, said).await.ok().flatten()
}

/// Of a socket, as opposed to TLS or a session.
fn is_of_the_system(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}

fn poll_both<A: Link, W: Link>(
    cx: &mut Context<'_>,
    app: &mut A,
    wan: &mut W,
    session: &mut Option<Box<dyn Session>>,
    (outward, inward): &mut (Pump, Pump),
    traffic: &Traffic,
) -> Poll<Result<(), (Side, io::Error)>> {
    let out = outward.poll(cx, app, wan, session, &traffic.to_wan)?;
    let back = inward.poll(cx, wan, app, session, &traffic.to_app)?;
    match (out, back) {
        (Poll::Ready(()), Poll::Ready(())) => Poll::Ready(Ok(())),
        _ => Poll::Pending,
    }
}

#[cfg(test)]
mod tests;
