//! Tasks that are to run as long as the process: one that ends is started again.
//!
//! Every loop of every role is kept by a [`Supervisor`]. A loop that panics or returns before its
//! time is started again from what its role shares, after a pause that doubles. Meanwhile, and
//! until it has run for a while, the process is not ready, and readiness says which task it was.
//! A site whose loop fails over and over continues with everything else that it does: ending the
//! process would take that away as well.
//!
//! A task of one connection is not kept: its panic ends that connection.

use std::{
    any::Any,
    future::Future,
    panic::AssertUnwindSafe,
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tokio::task::JoinHandle;

use crate::{
    backoff::Backoff,
    readiness::{Condition, Readiness},
};

/// How failed tasks are started again.
#[derive(Debug, Clone, Copy)]
struct Pace {
    first_pause: Duration,
    longest_pause: Duration,
    /// A task that has run for so long is taken to work again.
    steady: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(30),
            steady: Duration::from_secs(10),
        }
    }
}

/// Keeps tasks running, and reports those that do not. Clones report in the same places.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    readiness: Readiness,
    failures: Family<Vec<(&'static str, String)>, Counter>,
    pace: Pace,
}

impl Supervisor {
    /// Reports failed tasks in the conditions of this process.
    pub fn new(readiness: Readiness) -> Self {
        Self {
            readiness,
            ..Self::default()
        }
    }

    /// Registers the counter `renkei_task_failures`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "renkei_task_failures",
            "Tasks that ended before their time and were started again",
            self.failures.clone(),
        );
    }

    /// Runs what `start` makes until `over` says that its end is wanted; another end is a failure,
    /// after which `start` makes the next one. Aborting the handle ends all of it.
    pub fn keep<O, S, F>(&self, name: impl Into<String>, over: O, start: S) -> JoinHandle<()>
    where
        O: Fn() -> bool + Send + 'static,
        S: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(self.clone().run(name.into(), over, start))
    }

    /// The same within the caller's task.
    pub async fn run<O, S, F>(self, name: String, over: O, mut start: S)
    where
        O: Fn() -> bool,
        S: FnMut() -> F,
        F: Future<Output = ()>,
    {
        let Pace {
            first_pause,
            longest_pause,
            steady,
        } = self.pace;
        let mut backoff = Backoff::new(first_pause, longest_pause);
        let mut condition: Option<Condition> = None;
        loop {
            let began = Instant::now();
            let task = AssertUnwindSafe(async { start().await }).catch_unwind();
            let mut task = pin!(task);
            let ended = tokio::select! {
                ended = &mut task => ended,
                () = tokio::time::sleep(steady) => {
                    if let Some(condition) = condition.take() {
                        tracing::info!(task = name, "the task runs again");
                        condition.remove();
                    }
                    task.await
                }
            };
            if over() {
                if let Some(condition) = condition {
                    condition.remove();
                }
                return;
            }
            let why = match ended {
                Ok(()) => "it returned".to_owned(),
                Err(panic) => format!("it panicked: {}", message(&*panic)),
            };
            if began.elapsed() > steady {
                backoff.succeeded();
            }
            let pause = backoff.failed();
            let labels = vec![("task", name.clone())];
            self.failures.get_or_create(&labels).inc();
            tracing::error!(task = name, why, retry_in = ?pause, "a task ended before its time");
            condition
                .get_or_insert_with(|| self.readiness.condition(&format!("task {name}")))
                .set_not_ready(format!(
                    "the task ended before its time ({why}); it is started again"
                ));
            tokio::time::sleep(pause).await;
        }
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use tokio::sync::Notify;

    use super::*;

    fn ready() -> (Readiness, Supervisor) {
        let readiness = Readiness::new();
        readiness.condition("listeners").set_ready();
        let mut tasks = Supervisor::new(readiness.clone());
        tasks.pace = Pace {
            first_pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(8),
            steady: Duration::from_millis(100),
        };
        (readiness, tasks)
    }

    fn missing(readiness: &Readiness) -> Vec<String> {
        let snapshot = readiness.snapshot();
        let missing = snapshot.missing();
        missing
            .map(|(name, why)| format!("{name}: {why}"))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_is_started_again_and_readiness_says_so() {
        let (readiness, tasks) = ready();
        let mut registry = Registry::default();
        tasks.register(&mut registry);
        let (starts, mend) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let task = tasks.keep("rotation", || false, {
            let (starts, mend) = (starts.clone(), mend.clone());
            move || {
                starts.fetch_add(1, Ordering::SeqCst);
                assert!(mend.load(Ordering::SeqCst), "out of order");
                std::future::pending()
            }
        });
        while starts.load(Ordering::SeqCst) < 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let why = "the task ended before its time (it panicked: out of order); it is started again";
        assert_eq!(missing(&readiness), [format!("task rotation: {why}")]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(
            text.contains("renkei_task_failures_total{task=\"rotation\"}"),
            "{text}"
        );

        mend.store(true, Ordering::SeqCst);
        readiness.wait_ready().await;
        assert!(!task.is_finished());
        task.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_return_is_a_failure_too_unless_the_end_is_wanted() {
        let (readiness, tasks) = ready();
        let (stop, go) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
        let task = tasks.keep(
            "keeper",
            {
                let stop = stop.clone();
                move || stop.load(Ordering::SeqCst)
            },
            {
                let go = go.clone();
                move || {
                    let go = go.clone();
                    async move { go.notified().await }
                }
            },
        );
        go.notify_one();
        let seen = readiness.snapshot();
        readiness.changed_from(&seen).await;
        assert!(
            missing(&readiness)[0].contains("it returned"),
            "{readiness:?}"
        );
        stop.store(true, Ordering::SeqCst);
        go.notify_one();
        task.await.unwrap();
        assert!(readiness.is_ready(), "{readiness:?}");
    }
}
