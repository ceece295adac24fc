//! One direction of a connection.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, ready},
};

use super::{Next, Session, Side, Transport};
use bytes::{Buf, Bytes, BytesMut};

/// What a quiet connection reads at once.
const SMALL: usize = 16 * 1024;
/// What a busy one does, at most: sixteen full DATA frames of a trunk.
pub(super) const LARGE: usize = 16 * super::FULL_FRAME;
/// The same where a session changes the bytes, which it does in memory of its own.
const LARGE_CHANGED: usize = LARGE / 2;
/// Reads after which a direction lets others run.
const ROUNDS: usize = 16;

/// Why a connection is carried no further.
#[derive(Debug)]
pub(super) enum Stop {
    /// A side broke, or what came from it.
    Broken(Side, io::Error),
    /// Its session closes it.
    Closed,
    /// The same, and the side that it refuses gets an answer.
    Refused(Side, Bytes),
}

#[derive(Debug)]
enum State {
    Carrying,
    /// The reader ended; what is left goes out, then the writer is shut down.
    Ending,
    Ended,
    /// The writer takes no more. What still comes is dropped: its sender may read only once it
    /// has sent everything, and is to read what the writer's side had said.
    Refused(io::Error),
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
    /// Nothing more comes from the reader.
    drained: bool,
    /// The session's end is still to be passed on.
    closing: bool,
}

impl Pump {
    pub(super) fn from(from: Side) -> Self {
        Self {
            from,
            state: State::Carrying,
            received: BytesMut::new(),
            outgoing: VecDeque::new(),
            size: SMALL,
            // The other end learns of a stream even before its first byte.
            unflushed: true,
            drained: false,
            closing: false,
        }
    }

    /// Ready when this direction is over, cleanly or because the writer takes no more.
    pub(super) fn poll<R: Transport, W: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        session: &mut Option<Box<dyn Session>>,
        carried: &AtomicU64,
    ) -> Poll<Result<(), Stop>> {
        let from = self.from;
        for _ in 0..ROUNDS {
            let written = match self.state {
                State::Refused(_) => {
                    self.discard(cx, reader)
                        .map_err(|error| Stop::Broken(from, error))?;
                    return Poll::Ready(Ok(()));
                }
                State::Carrying => ready!(self.poll_send(cx, writer, carried)),
                State::Ending | State::Ended => ready!(self.poll_end(cx, writer, carried)),
            };
            if let Err(error) = written {
                self.refuse(error)?;
                continue;
            }
            if !matches!(self.state, State::Carrying) {
                return Poll::Ready(Ok(()));
            }
            let room = match session {
                Some(session) => session.poll_room(from, cx),
                None => Poll::Ready(Ok(())),
            };
            let read = match room {
                Poll::Ready(Ok(())) => reader.poll_read_chunks(cx, self.size, &mut self.outgoing),
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Pending => Poll::Pending,
            };
            let received = match read {
                Poll::Ready(Ok(0)) => self.end(),
                Poll::Ready(Ok(count)) => self.take(count, session),
                Poll::Ready(Err(error)) => Err(error),
                Poll::Pending => {
                    self.rest();
                    if let Err(error) = ready!(self.poll_flush(cx, writer)) {
                        self.refuse(error)?;
                        continue;
                    }
                    return Poll::Pending;
                }
            };
            match received {
                Ok(Next::More) => {}
                Ok(Next::Close) => return Poll::Ready(Err(Stop::Closed)),
                Ok(Next::Refuse(answer)) => return Poll::Ready(Err(Stop::Refused(from, answer))),
                Err(error) => return Poll::Ready(Err(Stop::Broken(from, error))),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The writer failed: if it is its connection that does not take bytes any more, the other
    /// direction is still read to its end.
    fn refuse(&mut self, error: io::Error) -> Result<(), Stop> {
        if !is_of_connection(&error) {
            return Err(Stop::Broken(self.from.other(), error));
        }
        self.received = BytesMut::new();
        self.outgoing = VecDeque::new();
        self.state = State::Refused(error);
        Ok(())
    }

    /// The reader has ended, and the writer has all of it or takes no more.
    pub(super) fn has_read_all(&self) -> bool {
        self.drained && !matches!(self.state, State::Carrying | State::Ending)
    }

    /// Why the writer took no more, if it did not.
    pub(super) fn take_refusal(&mut self) -> Option<Stop> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Refused(error) => Some(Stop::Broken(self.from.other(), error)),
            _ => None,
        }
    }

    /// Drops what comes from the reader, as far as it is there.
    pub(super) fn discard<R: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> io::Result<()> {
        if !self.drained
            && let Poll::Ready(end) = reader.poll_discard(cx)
        {
            self.drained = true;
            return end;
        }
        Ok(())
    }

    /// Nothing more is read; the writer gets what is left, and a clean end.
    pub(super) fn close(&mut self) {
        if matches!(self.state, State::Carrying | State::Ending) {
            self.state = State::Ending;
            self.closing = true;
        }
    }

    /// Puts something behind what goes out.
    pub(super) fn put(&mut self, bytes: Bytes) {
        self.outgoing.push_back(bytes);
    }

    /// Sends what was taken from the reader before the end; says how much still waits.
    pub(super) fn send_rest<W: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        carried: &AtomicU64,
    ) -> u64 {
        if let Poll::Ready(Err(_)) = self.poll_send(cx, writer, carried) {
            self.outgoing.clear();
        }
        if self.unflushed && Pin::new(&mut *writer).poll_flush(cx).is_ready() {
            self.unflushed = false;
        }
        if self.closing && self.outgoing.is_empty() {
            match Pin::new(writer).poll_shutdown(cx) {
                Poll::Ready(_) => self.closing = false,
                Poll::Pending => return 1,
            }
        }
        let waits: usize = self.outgoing.iter().map(Bytes::len).sum();
        waits as u64
    }

    fn take(&mut self, count: usize, session: &mut Option<Box<dyn Session>>) -> io::Result<Next> {
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
            return Ok(Next::More);
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

    /// The reader ended cleanly; half a message is no clean end.
    fn end(&mut self) -> io::Result<Next> {
        if !self.received.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.state = State::Ending;
        self.drained = true;
        Ok(Next::More)
    }

    fn poll_send<W: Transport>(
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

    fn poll_end<W: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        carried: &AtomicU64,
    ) -> Poll<io::Result<()>> {
        if matches!(self.state, State::Ending) {
            ready!(self.poll_send(cx, writer, carried))?;
            ready!(Pin::new(writer).poll_shutdown(cx))?;
            self.state = State::Ended;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when everything is on its way.
    fn poll_flush<W: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(writer).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing to read: idle connections hold no memory.
    fn rest(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
            self.outgoing = VecDeque::new();
        }
    }
}

/// Of a connection that takes no more bytes, as opposed to TLS or a trunk that refuses.
fn is_of_connection(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
        || matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
        )
}
