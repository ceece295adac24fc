//! One direction of a connection.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

use super::{Link, Session, Side};
use bytes::{Buf, Bytes, BytesMut};

/// What a quiet connection reads at once.
const SMALL: usize = 16 * 1024;
/// What a busy one does, at most: sixteen full DATA frames of a trunk.
pub(super) const LARGE: usize = 16 * crate::trunk::FULL_FRAME;
/// The same where a session changes the bytes, which it does in memory of its own.
const LARGE_CHANGED: usize = LARGE / 2;
/// Reads after which a direction lets others run.
const ROUNDS: usize = 16;

type Broken = (Side, io::Error);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Carrying,
    /// The reader ended; what is left goes out, then the writer is shut down.
    Ending,
    Ended,
}

/// Reads from one side, writes to the other.
pub(super) struct Pump {
    from: Side,
    state: State,
    received: BytesMut,
    outgoing: VecDeque<Bytes>,
    /// How much to read at once; grows while reads fill it.
    size: usize,
    unflushed: bool,
}

impl Pump {
    pub(super) fn from(from: Side) -> Self {
        Self {
            from,
            state: State::Carrying,
            received: BytesMut::new(),
            outgoing: VecDeque::new(),
            size: SMALL,
            // A stream that opens is told of even before its first byte.
            unflushed: true,
        }
    }

    pub(super) fn poll<R: Link, W: Link>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        session: &mut Option<Box<dyn Session>>,
        carried: &AtomicU64,
    ) -> Poll<Result<(), Broken>> {
        let (from, to) = (self.from, self.from.other());
        for _ in 0..ROUNDS {
            ready!(self.poll_send(cx, writer, carried)).map_err(|error| (to, error))?;
            if self.state != State::Carrying {
                return self.poll_end(cx, writer).map_err(|error| (to, error));
            }
            let received = match reader.poll_read_chunks(cx, self.size, &mut self.outgoing) {
                Poll::Ready(Ok(0)) => self.end(),
                Poll::Ready(Ok(count)) => self.take(count, session),
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => {
                    self.rest();
                    return self.poll_flush(cx, writer).map_err(|error| (to, error));
                }
            };
            received.map_err(|error| (from, error))?;
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn take(&mut self, count: usize, session: &mut Option<Box<dyn Session>>) -> io::Result<()> {
        if count >= self.size {
            let most = if session.is_some() {
                LARGE_CHANGED
            } else {
                LARGE
            };
            self.size = most.min(self.size * 2);
        } else if count < self.size / 4 {
            self.size = SMALL.max(self.size / 2);
        }
        let Some(session) = session else {
            return Ok(());
        };
        // All that was to go out before has gone: this is what was read.
        for chunk in self.outgoing.drain(..) {
            match self.received.is_empty() {
                true => self.received = chunk.into(),
                false => self.received.extend_from_slice(&chunk),
            }
        }
        let mut out = Vec::new();
        let advanced = session.advance(self.from, &mut self.received, &mut out);
        self.outgoing.extend(out);
        advanced
    }

    /// The reader ended cleanly; half a message that nobody completes is no clean end.
    fn end(&mut self) -> io::Result<()> {
        if !self.received.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.state = State::Ending;
        Ok(())
    }

    fn poll_send<W: Link>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        carried: &AtomicU64,
    ) -> Poll<io::Result<()>> {
        self.outgoing.retain(Buf::has_remaining);
        while !self.outgoing.is_empty() {
            let count = ready!(writer.poll_write_chunks(cx, &mut self.outgoing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            carried.fetch_add(count as u64, Ordering::Relaxed);
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_end<W: Link>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>> {
        if self.state == State::Ending {
            ready!(Pin::new(writer).poll_shutdown(cx))?;
            self.state = State::Ended;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_flush<W: Link>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(writer).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Pending
    }

    /// Nothing to read: idle connections hold no memory.
    fn rest(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
            self.outgoing = VecDeque::new();
        }
    }
}
