//! The allocator, and giving back what it keeps.
//!
//! mimalloc keeps what a thread has freed for that thread. One that has nothing to do any more
//! never gives it back, and after a burst a process would stay as large as it was. So every worker
//! is made to give back, now and then, while the process is larger than it has been.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use renkei_runtime::supervise::Supervisor;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often to look.
const LOOK: Duration = Duration::from_secs(10);
/// What a process may be larger than it has been without a look at its workers.
const SLACK: u64 = 8 << 20;
/// How often a visitor yields in search of workers that have not been visited.
const YIELDS: usize = 1000;

/// The number of the last round of visits.
static ROUND: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The last round in which this thread gave back.
    static VISITED: Cell<u64> = const { Cell::new(0) };
}

/// Keeps the process from staying as large as it once was.
pub(crate) fn keep_small(tasks: &Supervisor) {
    tasks.keep("memory", || false, follow);
}

async fn follow() {
    let mut least = u64::MAX;
    loop {
        tokio::time::sleep(LOOK).await;
        let resident = resident().unwrap_or(0);
        least = least.min(resident);
        if resident > least + SLACK {
            visit_workers().await;
        }
    }
}

/// Bytes that the process has in memory.
#[expect(
    clippy::disallowed_methods,
    reason = "what the kernel says of this process is no file that could hold it up"
)]
fn resident() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Has every worker give back what it keeps. As many tasks as there are workers are run by those
/// that have nothing else to do; one that is missed is visited the next time.
async fn visit_workers() {
    let workers = tokio::runtime::Handle::current().metrics().num_workers();
    let round = ROUND.fetch_add(1, Ordering::Relaxed) + 1;
    let done = Arc::new(AtomicUsize::new(0));
    let visitors: Vec<_> = (0..workers)
        .map(|_| {
            let done = done.clone();
            tokio::spawn(async move {
                for _ in 0..YIELDS {
                    if VISITED.replace(round) != round {
                        give_back();
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                    if done.load(Ordering::Relaxed) >= workers {
                        return;
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for visitor in visitors {
        // It does not panic, and nothing ends it.
        let _ = visitor.await;
    }
}

/// Gives back what this thread has freed.
#[expect(unsafe_code, reason = "the allocator has no other interface for it")]
fn give_back() {
    // SAFETY: mi_collect may be called by any thread at any time, and touches no live memory.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
