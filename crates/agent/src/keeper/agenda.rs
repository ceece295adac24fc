//! When each identity is looked at next, so that no task has to look at all of them.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use renkei_runtime::clock;
use renkei_spiffe::SpiffeId;
use time::OffsetDateTime;

/// The longest sleep without a look at the agendas.
pub(super) const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The longest time between two looks at the clock: validity is a matter of the wall clock, which
/// may be set meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// Identities in the order of their times.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    order: BTreeSet<(OffsetDateTime, SpiffeId)>,
    times: HashMap<SpiffeId, OffsetDateTime>,
}

impl Agenda {
    /// The identity is due then, or not at all.
    pub(super) fn set(&mut self, id: &SpiffeId, at: Option<OffsetDateTime>) {
        let before = match at {
            Some(at) => self.times.insert(id.clone(), at),
            None => self.times.remove(id),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, id.clone()));
        }
        self.order.extend(at.map(|at| (at, id.clone())));
    }

    /// Takes out the one that has been due for longest.
    pub(super) fn pop(&mut self, now: OffsetDateTime) -> Option<SpiffeId> {
        self.next().filter(|next| *next <= now)?;
        let (_, id) = self.order.pop_first()?;
        self.times.remove(&id);
        Some(id)
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<OffsetDateTime> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.times.clear();
    }
}

/// Sleeps until the wall clock has come so far, or was set back.
pub(super) async fn sleep_until(wake: OffsetDateTime) {
    loop {
        let left = Duration::try_from(wake - clock::now()).unwrap_or_default();
        if left.is_zero() || left > LONGEST_SLEEP + LOOK {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_its_order_and_once() {
        let id = |name: &str| SpiffeId::parse(&format!("spiffe://osaka.example/{name}")).unwrap();
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let mut agenda = Agenda::default();
        for (name, seconds) in [("b", 2), ("a", 1), ("c", 3)] {
            agenda.set(&id(name), Some(at(seconds)));
        }
        agenda.set(&id("b"), Some(at(4)));
        agenda.set(&id("b"), Some(at(4)));
        assert_eq!(agenda.next(), Some(at(1)));
        assert_eq!(agenda.pop(at(3)), Some(id("a")));
        assert_eq!(agenda.pop(at(3)), Some(id("c")));
        assert_eq!(agenda.pop(at(3)), None);
        agenda.set(&id("b"), None);
        assert_eq!(agenda.next(), None);
    }
}
