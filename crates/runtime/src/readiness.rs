//! Readiness: named conditions, ready when all of them hold.
//!
//! A part of the process takes a [`Condition`] when it is built and says when it holds. The
//! reasons of those that do not hold are what `/readyz` and `renkei status` show.

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::sync::watch;

/// The state of one condition: nothing when it holds, otherwise why not.
type Conditions = BTreeMap<String, Option<String>>;

/// All conditions of a process.
#[derive(Debug, Clone)]
pub struct Readiness {
    conditions: watch::Sender<Conditions>,
}

/// One condition; not ready ("starting") until it is set.
#[derive(Debug, Clone)]
pub struct Condition {
    name: String,
    conditions: watch::Sender<Conditions>,
}

/// What holds and what does not, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Whether there is at least one condition and all of them hold.
    pub ready: bool,
    /// Every condition by name: nothing when it holds, otherwise why not.
    pub conditions: BTreeMap<String, Option<String>>,
}

impl Snapshot {
    fn of(conditions: &Conditions) -> Self {
        Self {
            ready: all_hold(conditions),
            conditions: conditions.clone(),
        }
    }

    /// The conditions that do not hold, each with its reason.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.conditions
            .iter()
            .filter_map(|(name, reason)| Some((name.as_str(), reason.as_deref()?)))
    }
}

/// A process with no condition has not come far enough to be ready.
fn all_hold(conditions: &Conditions) -> bool {
    !conditions.is_empty() && conditions.values().all(Option::is_none)
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// No conditions yet, hence not ready.
    pub fn new() -> Self {
        Self {
            conditions: watch::Sender::new(Conditions::new()),
        }
    }

    /// Adds a condition, not ready until it is set. Of two with the same name one is kept.
    pub fn condition(&self, name: &str) -> Condition {
        let condition = Condition {
            name: name.to_owned(),
            conditions: self.conditions.clone(),
        };
        condition.set_not_ready("starting");
        condition
    }

    /// All conditions at this moment, to compare with later.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.conditions.borrow())
    }

    /// Whether all conditions hold now.
    pub fn is_ready(&self) -> bool {
        all_hold(&self.conditions.borrow())
    }

    /// Resolves once all conditions hold.
    pub async fn wait_ready(&self) {
        // The sender lives in `self`, so the channel cannot be closed here.
        let _ = self.conditions.subscribe().wait_for(all_hold).await;
    }

    /// Resolves with the conditions when they are no longer `seen`.
    pub async fn changed_from(&self, seen: &Snapshot) -> Snapshot {
        let mut watch = self.conditions.subscribe();
        match watch.wait_for(|now| *now != seen.conditions).await {
            Ok(now) => Snapshot::of(&now),
            Err(_) => self.snapshot(),
        }
    }
}

impl Condition {
    /// Marks the condition as met.
    pub fn set_ready(&self) {
        self.set(None);
    }

    /// The condition does not hold, and why.
    pub fn set_not_ready(&self, reason: impl Into<String>) {
        self.set(Some(reason.into()));
    }

    /// Takes the condition away, with the part of the process it spoke for.
    pub fn remove(self) {
        self.conditions
            .send_if_modified(|all| all.remove(&self.name).is_some());
    }

    fn set(&self, reason: Option<String>) {
        self.conditions
            .send_if_modified(|all| match all.get_mut(&self.name) {
                Some(known) if *known == reason => false,
                Some(known) => {
                    *known = reason;
                    true
                }
                None => all.insert(self.name.clone(), reason).is_none(),
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_condition_holds() {
        let readiness = Readiness::new();
        assert!(!readiness.is_ready(), "nothing has started");
        let (first, second) = (
            readiness.condition("listeners"),
            readiness.condition("identities"),
        );
        first.set_ready();
        assert!(!readiness.is_ready());
        second.set_ready();
        assert!(readiness.is_ready());
        second.set_not_ready("expired 3 s ago");
        let missing: Vec<_> = readiness
            .snapshot()
            .missing()
            .map(|(n, r)| format!("{n}: {r}"))
            .collect();
        assert_eq!(missing, ["identities: expired 3 s ago"]);
        second.remove();
        assert!(readiness.is_ready());
    }

    #[tokio::test]
    async fn a_waiter_wakes_when_the_last_condition_holds() {
        let readiness = Readiness::new();
        let condition = readiness.condition("gateway");
        let seen = readiness.snapshot();
        let waiting = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.wait_ready().await }
        });
        let change = tokio::spawn({
            let readiness = readiness.clone();
            async move { readiness.changed_from(&seen).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        condition.set_ready();
        waiting.await.unwrap();
        assert!(change.await.unwrap().ready);
    }
}
