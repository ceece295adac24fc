//! The body of a request on its way to a backend. What was taken of it is kept while that is
//! little, so that the request can go out again over another connection.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::oneshot;

use super::body::{Broken, Passing};

/// How much of a body is kept.
const KEPT: usize = 64 * 1024;

pub(super) struct Upload(Arc<Mutex<State>>);

/// Whether the caller broke off the body of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Aborted(Arc<AtomicBool>);

impl Aborted {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

struct State {
    /// `None` once the request has failed.
    body: Option<Passing>,
    /// All that was taken of it, unless that is too much, or is not to go out again.
    kept: Option<Vec<u8>>,
    aborted: Aborted,
    attempt: usize,
}

impl Upload {
    pub(super) fn new(body: Passing) -> Self {
        Self(Arc::new(Mutex::new(State {
            body: Some(body),
            kept: Some(Vec::new()),
            aborted: Aborted::default(),
            attempt: 0,
        })))
    }

    /// The body for the next attempt; `keep` if it may not be the last. The receiver hears when
    /// all of the body was taken.
    pub(super) fn attempt(&self, keep: bool) -> (Attempt, oneshot::Receiver<()>) {
        let (taken, all_taken) = oneshot::channel();
        let mut state = lock(&self.0);
        state.attempt += 1;
        let first = state.kept.as_deref().unwrap_or_default();
        let attempt = Attempt {
            first: (!first.is_empty()).then(|| Bytes::copy_from_slice(first)),
            state: self.0.clone(),
            number: state.attempt,
            keep,
            _taken: taken,
        };
        (attempt, all_taken)
    }

    /// All that was taken of the body can go out again.
    pub(super) fn can_repeat(&self) -> bool {
        let state = lock(&self.0);
        state.kept.is_some() && !state.aborted.is_set()
    }

    pub(super) fn aborted(&self) -> Aborted {
        lock(&self.0).aborted.clone()
    }

    /// What no attempt has taken, which none will take any more.
    pub(super) fn into_rest(self) -> Option<Passing> {
        lock(&self.0).body.take()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn note(&mut self, frame: &Frame<Bytes>, keep: bool) {
        let room = self.kept.as_ref().map_or(0, |kept| KEPT - kept.len());
        match (&mut self.kept, frame.data_ref()) {
            (Some(kept), Some(data)) if keep && data.len() <= room => kept.extend_from_slice(data),
            _ => self.kept = None,
        }
    }
}

/// One attempt to send the body.
pub(super) struct Attempt {
    /// What an earlier attempt has taken.
    first: Option<Bytes>,
    state: Arc<Mutex<State>>,
    number: usize,
    keep: bool,
    /// Dropped when all was taken.
    _taken: oneshot::Sender<()>,
}

impl Body for Attempt {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let mut state = lock(&self.state);
        let is_last = state.attempt == self.number;
        let Some(body) = state.body.as_mut().filter(|_| is_last) else {
            return Poll::Ready(Some(Err(Broken::GivenUp)));
        };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => state.note(frame, self.keep),
            Some(Err(_)) => state.aborted.0.store(true, Ordering::Release),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.state);
        let at_end = state.body.as_ref().is_some_and(Passing::is_end_stream);
        self.first.is_none() && at_end
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().map_or(0, |first| first.len() as u64);
        let rest = lock(&self.state).body.as_ref().map(Passing::size_hint);
        match rest.and_then(|rest| rest.exact()) {
            Some(rest) => SizeHint::with_exact(first + rest),
            None => SizeHint::default(),
        }
    }
}
