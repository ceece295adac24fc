//! Time that passes when a test says so, and what must come before a deadline.

use std::{
    sync::mpsc::{Sender, channel},
    time::Duration,
};

use tokio::task::JoinHandle;

/// How long a test waits for what must come.
const DEADLINE: Duration = Duration::from_secs(30);

/// Lets so much time pass at once for all timers of this test's runtime. Connections cost none.
pub(crate) async fn pass(by: Duration) {
    tokio::time::pause();
    tokio::time::advance(by).await;
    tokio::time::resume();
}

/// As long as it exists, no time passes for the timers of this test's runtime.
pub(crate) struct Frozen {
    _release: Sender<()>,
    _waiting: JoinHandle<()>,
}

impl Frozen {
    pub(crate) fn new() -> Self {
        tokio::time::pause();
        let (release, released) = channel::<()>();
        // Time does not advance by itself while a thread is at work.
        let waiting = tokio::task::spawn_blocking(move || {
            let _ = released.recv();
        });
        Self {
            _release: release,
            _waiting: waiting,
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

/// What must come, or the test fails. Time that a test lets pass does not count.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    let start = std::time::Instant::now();
    let stuck = async {
        while start.elapsed() < DEADLINE {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        biased;
        result = what => result,
        () = stuck => panic!("it takes too long"),
    }
}

/// Lets all other tasks run until this holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "waited in vain for: {what}");
        tokio::task::yield_now().await;
    }
}

/// Lets all other tasks do what they can do now.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
