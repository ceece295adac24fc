//! Connections to backends that no session uses now, for the next session of the same service.
//! The one that was used last is used first, so that what is not needed ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use renkei_site::BackendAddress;
use tokio::time::Instant;

use super::upstream::Upstream;

/// Idle connections to one backend of a service, and in all.
const MAX_OF_BACKEND: usize = 128;
const MAX: usize = 1_024;
/// How often connections are looked for that were idle for too long. They are not used any more.
const TICK: Duration = Duration::from_millis(500);

/// The idle connections of a process.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Connections>);

#[derive(Debug, Default)]
struct Connections {
    /// By service and backend, the one that was used last at the end.
    idle: HashMap<(String, BackendAddress), Vec<Idle>>,
    count: usize,
    /// A task looks after them.
    watched: bool,
}

#[derive(Debug)]
struct Idle {
    upstream: Upstream,
    until: Instant,
}

impl Pool {
    /// A connection to this backend of the service, if there is one that takes a request.
    pub(super) fn take(&self, service: &str, backend: &BackendAddress) -> Option<Upstream> {
        let now = Instant::now();
        let mut all = self.connections();
        // Built for each request; the names are short.
        let idle = all.idle.get_mut(&(service.to_owned(), backend.clone()))?;
        let (mut taken, mut found) = (0, None);
        while let Some(Idle { upstream, until }) = idle.pop() {
            taken += 1;
            if now < until && upstream.is_idle() {
                found = Some(upstream);
                break;
            }
        }
        all.count -= taken;
        found
    }

    /// Keeps a connection that takes a request, if there is room.
    pub(super) fn put(self: &Arc<Self>, service: &str, upstream: Upstream, limit: Duration) {
        let mut all = self.connections();
        if all.count >= MAX {
            return;
        }
        let key = (service.to_owned(), upstream.backend().clone());
        let idle = all.idle.entry(key).or_default();
        if idle.len() >= MAX_OF_BACKEND {
            return;
        }
        let until = Instant::now() + limit;
        idle.push(Idle { upstream, until });
        all.count += 1;
        let is_watched = std::mem::replace(&mut all.watched, true);
        // A runtime that is ending drops the task at once, which takes the lock.
        drop(all);
        if !is_watched {
            tokio::spawn(watch(Watched {
                pool: Arc::downgrade(self),
                is_released: false,
            }));
        }
    }

    /// Ends what was idle for too long. Says whether anything is left; if not, the task is to end,
    /// and the next connection gets a new one.
    fn end_old(&self) -> bool {
        let now = Instant::now();
        let mut all = self.connections();
        all.idle.retain(|_, idle| {
            idle.retain(|one| now < one.until && one.upstream.is_idle());
            !idle.is_empty()
        });
        all.count = all.idle.values().map(Vec::len).sum();
        // Within the same lock: a connection that is put back after it starts a task again.
        all.watched = all.count > 0;
        all.watched
    }

    fn connections(&self) -> MutexGuard<'_, Connections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that looks after a pool. If it is dropped before it has released the pool, the next
/// connection starts another.
struct Watched {
    pool: Weak<Pool>,
    is_released: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.is_released {
            return;
        }
        if let Some(pool) = self.pool.upgrade() {
            pool.connections().watched = false;
        }
    }
}

async fn watch(mut watched: Watched) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(pool) = watched.pool.upgrade() else {
            return;
        };
        if !pool.end_old() {
            watched.is_released = true;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(pool: &Arc<Pool>, is_released: bool) -> Watched {
        Watched {
            pool: Arc::downgrade(pool),
            is_released,
        }
    }

    #[test]
    fn a_connection_that_is_put_back_while_the_task_ends_gets_a_new_task() {
        let pool = Arc::new(Pool::default());
        pool.connections().watched = true;
        assert!(!pool.end_old());
        // Between the last look and the end of the task.
        assert!(!pool.connections().watched);
        pool.connections().watched = true;
        drop(watched(&pool, true));
        assert!(pool.connections().watched, "the new task's mark stays");
        drop(watched(&pool, false));
        assert!(!pool.connections().watched, "the runtime dropped the task");
    }
}
