//! Closing a connection whose caller still sends: what it sends is read and thrown away for a
//! while, so that it gets to read its answer (RFC 9112 9.6). Closed at once, the connection would
//! be reset, and the answer lost.

use std::{
    future::Future,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    time::{Instant, Sleep},
};

/// How long it may take in all.
const TIME: Duration = Duration::from_secs(30);
/// How long nothing may come.
const QUIET: Duration = Duration::from_secs(5);
/// Bytes that are read at once, and how often before others get their turn.
const STEP: usize = 16 * 1024;
const ROUNDS: usize = 16;

pub(super) struct Linger {
    late: Pin<Box<Sleep>>,
    until: Instant,
}

impl Linger {
    pub(super) fn new() -> Self {
        Self {
            late: Box::pin(tokio::time::sleep(QUIET)),
            until: Instant::now() + TIME,
        }
    }

    /// Ready when the caller has ended its direction, or when that takes too long.
    pub(super) fn poll<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut S,
        ended: &mut bool,
    ) -> Poll<()> {
        let mut came = false;
        for _ in 0..ROUNDS {
            let mut space = [MaybeUninit::uninit(); STEP];
            let mut unwanted = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *stream).poll_read(cx, &mut unwanted) {
                Poll::Pending => {
                    if came {
                        let late = Instant::now() + QUIET;
                        self.late.as_mut().reset(late.min(self.until));
                    }
                    return self.late.as_mut().poll(cx);
                }
                Poll::Ready(Ok(())) if !unwanted.filled().is_empty() => came = true,
                Poll::Ready(read) => {
                    *ended = read.is_ok();
                    return Poll::Ready(());
                }
            }
        }
        if Instant::now() >= self.until {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
