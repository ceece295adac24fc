//! Ending work in progress: a signal, a deadline, then force.
//!
//! The task that stops the process has the [`Drain`]; each connection has a
//! [`DrainGuard`] and listens to a [`DrainWatch`]:
//!
//! ```text
//!   begin()            all guards dropped
//!  ───────► draining ──────────────────────► done
//!               │ deadline or force()
//!               └────► forced: holders cut ─► done
//! ```
//!
//! After `begin` a holder accepts nothing new and ends when its peers end; after `forced` it
//! closes at once.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// How long holders have to close after force, before [`Drain::wait`] returns without them.
const CUT_TIME: Duration = Duration::from_secs(1);

/// The trigger: begins the drain and waits for its end.
#[derive(Debug)]
pub struct Drain {
    stages: DrainWatch,
    /// Guards that existed when force began.
    cut: AtomicUsize,
}

/// What holders of connections watch.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    begun: CancellationToken,
    forced: CancellationToken,
    holders: TaskTracker,
}

/// Lives as long as a connection (or other work) is open.
#[derive(Debug)]
#[must_use = "the drain waits only while the guard lives"]
pub struct DrainGuard {
    _token: TaskTrackerToken,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Guards that were left at the deadline, and so were cut; 0 for a clean end.
    pub left: usize,
}

impl Drain {
    /// A trigger and the first of its watches.
    pub fn new() -> (Self, DrainWatch) {
        let stages = DrainWatch {
            begun: CancellationToken::new(),
            forced: CancellationToken::new(),
            holders: TaskTracker::new(),
        };
        (
            Self {
                stages: stages.clone(),
                cut: AtomicUsize::new(0),
            },
            stages,
        )
    }

    /// A watch for one more part of the process.
    pub fn watch(&self) -> DrainWatch {
        self.stages.clone()
    }

    /// First stage: accept nothing new, let what is open end.
    pub fn begin(&self) {
        self.stages.begun.cancel();
    }

    /// Second stage: close everything now. Begins the drain if it had not begun.
    pub fn force(&self) {
        self.begin();
        if !self.stages.is_forced() {
            self.cut.store(self.stages.open(), Ordering::SeqCst);
        }
        self.stages.forced.cancel();
    }

    /// Begins the drain if it had not begun, then waits until every guard is dropped; after
    /// `deadline` (or once [`Drain::force`] is called) fires the second stage.
    pub async fn wait(&self, deadline: Duration) -> Drained {
        self.begin();
        let holders = &self.stages.holders;
        holders.close();
        tokio::select! {
            biased;
            () = self.stages.forced.cancelled() => {}
            () = holders.wait() => return Drained { left: 0 },
            () = tokio::time::sleep(deadline) => {}
        }
        self.force();
        if tokio::time::timeout(CUT_TIME, holders.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                count = holders.len(),
                "some connections did not close on request"
            );
        }
        Drained {
            left: self.cut.load(Ordering::SeqCst),
        }
    }
}

impl DrainWatch {
    /// Resolves when the drain begins (at once, if it has).
    pub async fn signaled(&self) {
        self.begun.cancelled().await;
    }

    /// Resolves when holders must close at once.
    pub async fn forced(&self) {
        self.forced.cancelled().await;
    }

    /// Whether the drain has begun.
    pub fn is_signaled(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Whether holders must close at once.
    pub fn is_forced(&self) -> bool {
        self.forced.is_cancelled()
    }

    /// A guard for one piece of open work; the drain waits for it.
    pub fn guard(&self) -> DrainGuard {
        DrainGuard {
            _token: self.holders.token(),
        }
    }

    /// How many guards there are.
    pub fn open(&self) -> usize {
        self.holders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn nothing_open_ends_at_once() {
        let (drain, watch) = Drain::new();
        assert!(!watch.is_signaled());
        assert_eq!(drain.wait(LONG).await, Drained { left: 0 });
        assert!(watch.is_signaled() && !watch.is_forced());
    }

    #[tokio::test]
    async fn holders_that_end_on_the_signal_are_not_cut() {
        let (drain, watch) = Drain::new();
        for _ in 0..3 {
            let (watch, guard) = (watch.clone(), watch.guard());
            tokio::spawn(async move {
                watch.signaled().await;
                drop(guard);
            });
        }
        assert_eq!(watch.open(), 3);
        assert_eq!(drain.wait(LONG).await, Drained { left: 0 });
        assert!(!watch.is_forced());
    }

    #[tokio::test(start_paused = true)]
    async fn holders_past_the_deadline_are_forced_and_counted() {
        let (drain, watch) = Drain::new();
        let cut = tokio::spawn({
            let (watch, guard) = (watch.clone(), watch.guard());
            async move {
                watch.forced().await;
                drop(guard);
            }
        });
        assert_eq!(drain.wait(LONG).await, Drained { left: 1 });
        cut.await.unwrap();
        assert_eq!(watch.open(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_ignores_force_does_not_hang_the_end() {
        let (drain, watch) = Drain::new();
        let _guard = watch.guard();
        assert_eq!(drain.wait(LONG).await, Drained { left: 1 });
    }

    #[tokio::test]
    async fn force_ends_the_wait_before_its_deadline() {
        let (drain, watch) = Drain::new();
        let guard = watch.guard();
        let holder = tokio::spawn(async move {
            watch.forced().await;
            drop(guard);
        });
        let (drained, ()) = tokio::join!(drain.wait(LONG), async { drain.force() });
        assert_eq!(drained.left, 1);
        holder.await.unwrap();
    }
}
