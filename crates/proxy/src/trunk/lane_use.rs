//! Lets the task that manages a trunk know that streams are opened, without waking it for each.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(super) struct LaneUse {
    opened: AtomicBool,
    dozing: AtomicBool,
    wake: Notify,
}

impl LaneUse {
    pub(super) fn note(&self) {
        self.opened.store(true, Ordering::SeqCst);
        if self.dozing.swap(false, Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Ready when a stream was opened while the task dozed.
    pub(super) async fn noted(&self) {
        self.wake.notified().await;
    }

    /// Whether streams were opened since the last call.
    pub(super) fn taken(&self) -> bool {
        self.opened.swap(false, Ordering::SeqCst)
    }

    /// From now on the task wants to be woken by the next stream.
    pub(super) fn doze(&self) {
        self.dozing.store(true, Ordering::SeqCst);
        if self.opened.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }
}
