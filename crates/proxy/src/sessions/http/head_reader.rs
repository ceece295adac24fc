//! Reads the responses of a backend, and keeps fields of a head back that the parser of HTTP has
//! no room for ([`surplus`](super::surplus)). While heads are small, it only counts their lines.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};

use super::{
    MAX_HEAD,
    surplus::{self, Message, PARSED, Surplus},
};

/// How much is read at once of a head that is kept back.
const STEP: usize = 4 * 1024;

/// The head of a response, as the reader and those that wait for the response see it.
#[derive(Debug, Default)]
pub(super) struct ResponseHead {
    expected: AtomicBool,
    surplus: Mutex<Surplus>,
}

impl ResponseHead {
    /// A request goes out: what comes next is a head.
    pub(super) fn expect(&self) {
        self.expected.store(true, Ordering::Release);
    }

    /// The fields of the head that the parser has not seen.
    pub(super) fn take_surplus(&self) -> Surplus {
        let mut surplus = self.surplus.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut surplus)
    }
}

/// Where in a head the next byte is.
#[derive(Debug, Default)]
struct Lines {
    count: usize,
    bytes: usize,
    /// The present line has something in it.
    begun: bool,
    /// How the first line begins, with its status: `HTTP/1.1 103`.
    start: [u8; 12],
}

/// What comes next in a head.
enum Found {
    /// More of it.
    More,
    /// It ends here.
    End(usize),
    /// More fields than are parsed, from here on.
    Surplus(usize),
}

impl Lines {
    fn follow(&mut self, bytes: &[u8]) -> Found {
        for (index, byte) in bytes.iter().enumerate() {
            if let Some(place) = self.start.get_mut(self.bytes) {
                *place = *byte;
            }
            self.bytes += 1;
            match byte {
                b'\n' if !self.begun => return Found::End(index + 1),
                b'\n' => {
                    self.begun = false;
                    self.count += 1;
                    if self.count > PARSED {
                        return Found::Surplus(index + 1);
                    }
                }
                b'\r' => {}
                _ => self.begun = true,
            }
        }
        Found::More
    }

    /// Another head follows this one (RFC 9110 15.2).
    fn is_interim(&self) -> bool {
        let [.., one, two, three] = self.start;
        one == b'1' && [two, three] != *b"01"
    }
}

#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Nothing while a body is read.
    lines: Option<Lines>,
    /// What has been read and not been passed on.
    held: BytesMut,
    /// All that comes is kept back until the head is there.
    keeps: bool,
}

impl HeadReader {
    /// What has been read and not been passed on.
    pub(super) fn into_held(self) -> BytesMut {
        self.held
    }

    /// Reads from a stream, of which the heads are shared as `head`.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        (buf, head): (&mut ReadBuf<'_>, &ResponseHead),
    ) -> Poll<io::Result<()>> {
        if head.expected.swap(false, Ordering::AcqRel) {
            self.lines = Some(Lines::default());
        }
        if self.held.is_empty() && !self.keeps {
            let before = buf.filled().len();
            ready!(Pin::new(&mut *stream).poll_read(cx, buf))?;
            let fresh = buf.filled().get(before..).unwrap_or_default();
            if let Some(passed) = self.follow(fresh) {
                self.held
                    .extend_from_slice(fresh.get(passed..).unwrap_or_default());
                buf.set_filled(before + passed);
                self.keeps = true;
            }
            return Poll::Ready(Ok(()));
        }
        while self.keeps {
            ready!(self.poll_rest(cx, stream, head))?;
        }
        let count = self.held.len().min(buf.remaining());
        buf.put_slice(&self.held.split_to(count));
        Poll::Ready(Ok(()))
    }

    /// How much of this is passed on, if the rest of the head is not.
    fn follow(&mut self, fresh: &[u8]) -> Option<usize> {
        let mut passed = 0;
        while let Some(lines) = &mut self.lines {
            match lines.follow(fresh.get(passed..).unwrap_or_default()) {
                Found::More => return None,
                Found::Surplus(count) => return Some(passed + count),
                Found::End(count) => {
                    passed += count;
                    self.lines = lines.is_interim().then(Lines::default);
                }
            }
        }
        None
    }

    /// Divides the rest of the head when it is there.
    fn poll_rest<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        head: &ResponseHead,
    ) -> Poll<io::Result<()>> {
        let passed = self.lines.as_ref().map_or(0, |lines| lines.bytes);
        let is_small = passed + self.held.len() <= MAX_HEAD;
        if let Some(end) = surplus::end_of_head(&self.held) {
            self.keeps = false;
            if passed + end <= MAX_HEAD {
                self.divide(end, head);
            }
            return Poll::Ready(Ok(()));
        }
        let mut space = [MaybeUninit::uninit(); STEP];
        let mut buf = ReadBuf::uninit(&mut space);
        ready!(Pin::new(stream).poll_read(cx, &mut buf))?;
        self.held.extend_from_slice(buf.filled());
        // The parser refuses what is too much, or ends too early.
        self.keeps = is_small && !buf.filled().is_empty();
        Poll::Ready(Ok(()))
    }

    /// Takes fields out of the rest of a head, which ends here.
    fn divide(&mut self, end: usize, head: &ResponseHead) {
        let body = self.held.split_off(end);
        let (parsed, surplus) = surplus::divide(&self.held, Message::Response);
        self.held = BytesMut::from(&*parsed);
        self.held.extend_from_slice(&body);
        // The fields of an interim response are left out, and the head behind it is as it came.
        if self.lines.take().is_some_and(|lines| !lines.is_interim()) {
            *head.surplus.lock().unwrap_or_else(PoisonError::into_inner) = surplus;
        }
    }
}
