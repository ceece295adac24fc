//! Whether the target of a route can be reached, where that takes long to find out: a gateway that
//! does not answer costs every connection a timeout. After the first one, connections are reset at
//! once, and a task dials with backoff until the gateway answers. What is found out fast (a
//! refusal, an alert) is asked again for each connection.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::tls::DialFailure;

/// After so long without a connection nothing is dialled. The next connection waits again.
const UNUSED: Duration = Duration::from_mins(1);

/// What is known of the target of a route.
#[derive(Debug, Default)]
pub(crate) struct Reachability(Mutex<Option<Down>>);

/// Why it cannot be reached.
#[derive(Debug)]
struct Down {
    label: &'static str,
    sentence: String,
    /// When a connection asked for it last.
    asked: Instant,
    /// The task that dials.
    task: Arc<Task>,
}

/// A task that dials until there is an answer. Without it nothing is known.
#[derive(Debug)]
pub(super) struct Task;

impl Reachability {
    /// Why a connection is to be reset at once, if it is.
    pub(super) fn refusal(&self) -> Option<DialFailure> {
        let mut down = self.down();
        let down = down.as_mut()?;
        down.asked = Instant::now();
        Some(DialFailure::Known {
            label: down.label,
            sentence: down.sentence.clone(),
        })
    }

    /// Why it cannot be reached, for people.
    pub(crate) fn fault(&self) -> Option<String> {
        self.down().as_ref().map(|down| down.sentence.clone())
    }

    /// Notes that the callee answers, so that connections dial again.
    pub(super) fn note_answer(&self) {
        *self.down() = None;
    }

    /// It does not answer. If that is new, the task that is to dial.
    pub(super) fn note_failure(&self, label: &'static str, sentence: String) -> Option<Arc<Task>> {
        let mut down = self.down();
        if let Some(down) = &mut *down {
            down.label = label;
            down.sentence = sentence;
            return None;
        }
        let task = Arc::new(Task);
        *down = Some(Down {
            label,
            sentence,
            asked: Instant::now(),
            task: task.clone(),
        });
        Some(task)
    }

    /// Whether the task is still needed: there is no answer, and connections have asked for one.
    pub(super) fn needs(&self, task: &Arc<Task>) -> bool {
        let down = self.down();
        let own = down.as_ref().filter(|down| Arc::ptr_eq(&down.task, task));
        own.is_some_and(|down| down.asked.elapsed() < UNUSED)
    }

    /// The task is over.
    pub(super) fn end(&self, task: &Arc<Task>) {
        self.down().take_if(|down| Arc::ptr_eq(&down.task, task));
    }

    fn down(&self) -> MutexGuard<'_, Option<Down>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trunk::DialError;

    const SENTENCE: &str = "the gateway does not answer";

    #[tokio::test(start_paused = true)]
    async fn what_is_down_is_told_until_it_answers_or_nobody_asks() {
        let reachability = Reachability::default();
        let fail = || reachability.note_failure("connect_timeout", SENTENCE.to_owned());
        assert!(reachability.refusal().is_none());
        let task = fail().expect("new");
        assert!(fail().is_none(), "one task");
        let refusal = reachability.refusal().expect("it is down");
        assert_eq!(refusal.label(), "connect_timeout");
        assert!(!refusal.is_slow(), "nothing new");
        tokio::time::advance(UNUSED / 2).await;
        assert!(reachability.needs(&task));
        // It is the connections that count, not the failures.
        fail();
        tokio::time::advance(UNUSED / 2).await;
        assert!(!reachability.needs(&task));
        assert!(reachability.refusal().is_some());
        assert!(reachability.needs(&task));
        reachability.note_answer();
        assert!(reachability.refusal().is_none() && !reachability.needs(&task));
    }

    #[tokio::test]
    async fn a_task_that_ends_late_does_not_end_what_came_after_it() {
        let reachability = Reachability::default();
        let fail = || reachability.note_failure("connect_timeout", SENTENCE.to_owned());
        let first = fail().expect("new");
        reachability.note_answer();
        let second = fail().expect("new");
        reachability.end(&first);
        assert!(!reachability.needs(&first) && reachability.needs(&second));
        reachability.end(&second);
        assert!(reachability.refusal().is_none());
    }
}
