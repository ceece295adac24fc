//! Bodies that are passed on, and the short ones that are answers of this side.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, timeout};

use super::{
    headers,
    progress::{Arriving, Held},
};

/// How much of the body of a refused request is read, and for how long, so that the caller gets
/// to read why.
const UNWANTED_BYTES: usize = 1024 * 1024;
const UNWANTED_TIME: Duration = Duration::from_secs(5);

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// What HTTP says of where it comes from.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// A backend paused for too long.
    #[error("nothing came for {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// It goes another way, or none.
    #[error("it was given up")]
    GivenUp,
}

/// To what a response belongs.
pub(super) trait ResponseOwner: Send + Sync {
    /// How long a response may pause.
    fn idle_limit(&self) -> Duration;

    /// Remembers that a response ended in its middle. The caller's connection is reset.
    fn broke_off(&self, error: &Broken);
}

/// Bounds how long a response may pause, and reports it if it breaks off.
struct Watch {
    owner: Arc<dyn ResponseOwner>,
    late: Option<Pin<Box<Sleep>>>,
    moved: bool,
}

impl Watch {
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<Broken> {
        let limit = self.owner.idle_limit();
        let late = match &mut self.late {
            Some(late) => late,
            None => self.late.insert(Box::pin(tokio::time::sleep(limit))),
        };
        if std::mem::take(&mut self.moved) {
            late.as_mut().reset(Instant::now() + limit);
        }
        ready!(late.as_mut().poll(cx));
        Poll::Ready(Broken::Silent(limit))
    }
}

/// A body on its way.
pub(super) struct Passing {
    /// Of a request, until its end has been read. Dropped first, so that the connection knows
    /// what was left unread when it finds no reader.
    arriving: Option<Arriving>,
    content: Content,
    /// Why it broke off, until what came before is on its way.
    broken: Option<Broken>,
    /// Of a response.
    watch: Option<Watch>,
    _held: Held,
}

enum Content {
    Text(Option<Bytes>),
    Stream(Incoming),
}

impl Passing {
    pub(super) fn text(text: String, held: Held) -> Self {
        let text = (!text.is_empty()).then(|| text.into());
        Self {
            content: Content::Text(text),
            arriving: None,
            broken: None,
            watch: None,
            _held: held,
        }
    }

    /// The body of a response.
    pub(super) fn response(body: Incoming, owner: Arc<dyn ResponseOwner>, held: Held) -> Self {
        let mut passing = Self::stream(body, held);
        passing.watch = Some(Watch {
            owner,
            late: None,
            moved: false,
        });
        passing
    }

    /// The body of a request.
    pub(super) fn request(body: Incoming, arriving: Arriving, held: Held) -> Self {
        let mut passing = Self::stream(body, held);
        passing.arriving = Some(arriving);
        passing.note_end();
        passing
    }

    fn stream(body: Incoming, held: Held) -> Self {
        Self {
            content: Content::Stream(body),
            arriving: None,
            broken: None,
            watch: None,
            _held: held,
        }
    }

    fn note_end(&mut self) {
        if self.is_end_stream()
            && let Some(arriving) = self.arriving.take()
        {
            arriving.end();
        }
    }
}

impl Passing {
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let stream = match &mut self.content {
            Content::Text(text) => {
                return Poll::Ready(text.take().map(|text| Ok(Frame::data(text))));
            }
            Content::Stream(stream) => stream,
        };
        match (Pin::new(stream).poll_frame(cx), &mut self.watch) {
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(watch)) => watch.poll_pause(cx).map(|broken| Some(Err(broken))),
            (Poll::Ready(frame), watch) => {
                if let Some(watch) = watch {
                    watch.moved = true;
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Broken::Http)))
            }
        }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut frame = ready!(self.poll_content(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            headers::remove_claims(trailers, true);
        }
        if frame.is_none()
            && let Some(arriving) = self.arriving.take()
        {
            arriving.end();
        }
        self.note_end();
        match frame {
            // An error ends the connection at once. The head and what else came before go first.
            Some(Err(error)) => {
                if let Some(watch) = &self.watch {
                    watch.owner.broke_off(&error);
                }
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Text(text) => text.is_none(),
            Content::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Content::Stream(stream) => stream.size_hint(),
        }
    }
}

/// Reads and drops what comes, up to a bound. Beyond it the connection is closed.
pub(super) fn discard(mut body: Passing) {
    if body.is_end_stream() {
        return;
    }
    let read = async move {
        let mut count = 0;
        while let Some(Ok(frame)) = body.frame().await {
            count += frame.data_ref().map_or(0, Bytes::len);
            if count > UNWANTED_BYTES {
                return;
            }
        }
    };
    tokio::spawn(timeout(UNWANTED_TIME, read));
}
