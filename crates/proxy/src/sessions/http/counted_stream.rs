//! The stream of a session: counts its bytes, and bounds the time that the head of a request may
//! take, but not the time between requests.
//!
//! While a request is answered, HTTP does not read. A caller that has ended its direction then
//! still gets its answer; one that is gone ends the request. To tell them apart the stream is read
//! ahead, up to a bound.
//!
//! Of a message, HTTP gets nothing behind its end at once: it never holds the head of the next
//! request while it answers one.

use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, BytesMut};

use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::Sleep,
};

use super::{
    interim::Interim,
    linger::Linger,
    progress::Progress,
    surplus::{self, Message},
    target_encoder::{OtherProtocol, TargetEncoder},
};
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
    encoder: TargetEncoder,
    /// What has arrived and HTTP has not read.
    ahead: BytesMut,
    interim: Arc<Interim>,
    /// HTTP has written all of what it had to write.
    between_messages: bool,
    /// HTTP waits for bytes.
    reading: bool,
    /// The caller sends no more.
    ended: bool,
    /// This side's direction has ended.
    shut: bool,
}

impl CountedStream {
    pub(super) fn new(
        stream: WanStream,
        flow: Arc<Flow>,
        (progress, interim): (Arc<Progress>, Arc<Interim>),
        limit: Duration,
    ) -> Self {
        Self {
            stream,
            flow,
            progress,
            limit,
            head: None,
            encoder: TargetEncoder::new(),
            ahead: BytesMut::new(),
            interim,
            between_messages: true,
            reading: false,
            ended: false,
            shut: false,
        }
    }

    /// What the caller speaks, if its first bytes are no HTTP/1.1.
    pub(super) fn other_protocol(&self) -> Option<OtherProtocol> {
        self.encoder.other_protocol()
    }

    /// A part of a head has arrived.
    pub(super) fn is_in_head(&self) -> bool {
        self.encoder.is_in_head()
    }

    /// Whether a response can be written that is none of HTTP's: it has not left half of one.
    pub(super) fn is_between_messages(&self) -> bool {
        self.between_messages && !self.shut
    }

    /// Ends the connection with a reset.
    pub(super) fn fail(self) {
        self.progress.fail();
    }

    /// The connection has become a tunnel.
    pub(super) fn end_http(&mut self) {
        self.encoder.stop();
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

    /// Reads up to the end of a head or of a body, and gives how much was taken for it.
    fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<usize>> {
        let before = buf.filled().len();
        if self.ahead.is_empty() {
            // Idle connections hold no memory.
            self.ahead = BytesMut::new();
            if self.ended {
                return Poll::Ready(Ok(0));
            }
            if self.encoder.is_in_body() {
                ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
                let fresh = buf.filled().get(before..).unwrap_or_default();
                let count = self.encoder.body(fresh);
                self.ahead
                    .extend_from_slice(fresh.get(count..).unwrap_or_default());
                buf.set_filled(before + count);
                return Poll::Ready(Ok(count));
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
        if self.encoder.is_in_body() {
            let next = self.ahead.get(..self.ahead.len().min(buf.remaining()));
            let count = self.encoder.body(next.unwrap_or_default());
            buf.put_slice(&self.ahead.split_to(count));
            return Poll::Ready(Ok(count));
        }
        loop {
            let held = self.ahead.len();
            self.encoder.head(&mut self.ahead, buf);
            match self.encoder.to_be_divided() {
                Some(room) if held == self.ahead.len() => ready!(self.poll_divide(cx, room))?,
                _ => return Poll::Ready(Ok(held - self.ahead.len())),
            }
        }
    }

    /// Takes fields out of the rest of a head when it is there, for which there is so much room.
    /// The parser refuses what is longer, or ends too early.
    fn poll_divide(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<()>> {
        match surplus::end_of_head(&self.ahead) {
            Some(end) if end <= room => {
                let behind = self.ahead.split_off(end);
                let (parsed, surplus) = surplus::divide(&self.ahead, Message::Request);
                self.flow.traffic.add_to_app(end - parsed.len());
                self.progress.put_surplus(surplus);
                self.ahead = BytesMut::from(&*parsed);
                self.ahead.extend_from_slice(&behind);
                self.encoder.divided();
            }
            None if self.ahead.len() <= room && !self.ended => {
                self.ended = ready!(self.poll_fill(cx))? == 0;
            }
            _ => self.encoder.divided(),
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in what has arrived, and gives how much that is; nothing at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); AHEAD_STEP];
        let mut buf = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf))?;
        self.ahead.extend_from_slice(buf.filled());
        Poll::Ready(Ok(buf.filled().len()))
    }

    /// What HTTP does not write itself goes first.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let traffic = &self.flow.traffic;
        let wrote = |count| traffic.add_to_wan(count);
        self.interim.poll_write(cx, &mut self.stream, wrote)
    }

    fn poll_before_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.between_messages {
            ready!(self.poll_interim(cx))?;
        }
        self.between_messages = false;
        Poll::Ready(Ok(()))
    }

    /// Ends the connection so that the caller can read what was sent.
    pub(super) async fn close(&mut self) {
        if self.shutdown().await.is_err() || self.ended || !self.has_unread() {
            return;
        }
        let mut linger = Linger::new();
        poll_fn(|cx| linger.poll(cx, &mut self.stream, &mut self.ended)).await;
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
            let Poll::Ready(read) = self.poll_fill(cx) else {
                break;
            };
            self.ended = read? == 0;
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
        let read = self.poll_message(cx, buf);
        self.reading = read.is_pending();
        if let Poll::Ready(read) = read {
            self.received(read?);
            return Poll::Ready(Ok(()));
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
        ready!(self.poll_before_write(cx))?;
        let count = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.flow.traffic.add_to_wan(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_before_write(cx))?;
        let count = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        self.flow.traffic.add_to_wan(count);
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// HTTP flushes whenever it has looked at a request and holds nothing more to write.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.look_ahead(cx)?;
        self.between_messages = true;
        ready!(self.poll_interim(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Ends this side's direction. What the caller still sends is looked after by
    /// [`close`](CountedStream::close).
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
            self.shut = true;
        }
        Poll::Ready(Ok(()))
    }
}
