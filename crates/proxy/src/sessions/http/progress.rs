//! What is under way in a session.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use super::surplus::Surplus;

/// The requests of a session, as the stream below and the bodies above see them.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Bodies and decisions of requests.
    open: AtomicUsize,
    /// Bodies of requests that have not been read to their end.
    arriving: AtomicUsize,
    /// The body of a request was not read to its end, and never will be.
    unread: AtomicBool,
    begun: AtomicU64,
    failed: AtomicBool,
    /// Fields of the head that HTTP reads, which its parser has not seen.
    surplus: Mutex<Surplus>,
}

/// Held while the body of a request has not been read to its end.
#[derive(Debug)]
pub(super) struct Arriving {
    progress: Arc<Progress>,
    whole: bool,
}

impl Arriving {
    /// Its end has been read.
    pub(super) fn end(mut self) {
        self.whole = true;
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        if !self.whole {
            self.progress.unread.store(true, Ordering::Release);
        }
        self.progress.arriving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Held by everything that belongs to a request.
#[derive(Debug)]
pub(super) struct Held(Arc<Progress>);

impl Progress {
    pub(super) fn hold(self: &Arc<Self>) -> Held {
        self.open.fetch_add(1, Ordering::AcqRel);
        self.begun.fetch_add(1, Ordering::AcqRel);
        Held(self.clone())
    }

    pub(super) fn put_surplus(&self, surplus: Surplus) {
        *self.surplus() = surplus;
    }

    /// The fields of a request whose head has been read, behind those that the parser has seen.
    pub(super) fn take_surplus(&self) -> Surplus {
        std::mem::take(&mut self.surplus())
    }

    fn surplus(&self) -> MutexGuard<'_, Surplus> {
        self.surplus.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection is to end with a reset.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// How many requests and bodies have begun.
    pub(super) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Requests have arrived whole and are not answered yet.
    pub(super) fn is_answering(&self) -> bool {
        !self.is_idle() && self.arriving.load(Ordering::Acquire) == 0
    }

    /// The body of a request, until it has been read to its end.
    pub(super) fn arriving(self: &Arc<Self>) -> Arriving {
        self.arriving.fetch_add(1, Ordering::AcqRel);
        Arriving {
            progress: self.clone(),
            whole: false,
        }
    }

    pub(super) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Acquire)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}
