//! Passive health of the backends of one service (Envoy calls it outlier detection). A backend
//! that refuses connections or does not answer is ejected: it gets no connections until its
//! backoff is over. Then one connection tries it. With all backends ejected, all are tried (panic
//! mode).

use std::time::Duration;

use renkei_site::BackendAddress;
use time::OffsetDateTime;
use tokio::time::Instant;

/// The first backoff. Each further failure doubles it.
pub(super) const FIRST_BACKOFF: Duration = Duration::from_secs(1);
pub(super) const MAX_BACKOFF: Duration = Duration::from_mins(1);

/// What is known about one backend.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    pub(super) address: BackendAddress,
    /// Connections that it has accepted.
    pub(super) connections: u64,
    pub(super) failures: u64,
    pub(super) ejection: Option<Ejection>,
}

/// Why a backend is skipped, and until when.
#[derive(Debug, Clone)]
pub(super) struct Ejection {
    pub(super) since: OffsetDateTime,
    pub(super) reason: String,
    /// It did not answer, as opposed to a refusal: each attempt waits until its timeout.
    is_silent: bool,
    backoff: Duration,
    retry: Instant,
    /// A connection tries it now.
    in_trial: bool,
}

/// A backend to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) index: usize,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is up, as far as is known.
    Up,
    /// It is ejected, and others are up.
    Trial,
    /// All are ejected.
    Panic,
}

/// How an attempt has changed what is known about a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Ejected,
    Recovered,
}

/// A connection attempt that failed.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    pub(super) reason: String,
    pub(super) is_silent: bool,
}

/// The backends of one service, each in turn.
#[derive(Debug, Clone)]
pub(super) struct Rotation {
    backends: Vec<Backend>,
    turn: usize,
}

impl Rotation {
    pub(super) fn new(addresses: &[BackendAddress]) -> Self {
        let backend = |address: &BackendAddress| Backend {
            address: address.clone(),
            connections: 0,
            failures: 0,
            ejection: None,
        };
        Self {
            backends: addresses.iter().map(backend).collect(),
            turn: 0,
        }
    }

    /// The same for other addresses. Those that stay keep what is known of them.
    pub(super) fn with(&self, addresses: &[BackendAddress]) -> Self {
        let mut new = Self::new(addresses);
        for backend in &mut new.backends {
            let known = self
                .backends
                .iter()
                .find(|old| old.address == backend.address);
            if let Some(known) = known {
                backend.clone_from(known);
                // Its outcome is for the rotation before.
                if let Some(ejection) = &mut backend.ejection {
                    ejection.in_trial = false;
                }
            }
        }
        new
    }

    pub(super) fn backends(&self) -> &[Backend] {
        &self.backends
    }

    pub(super) fn is_of(&self, addresses: &[BackendAddress]) -> bool {
        self.backends.iter().map(|one| &one.address).eq(addresses)
    }

    /// The next backend for a connection that has `tried` these. Nothing when it has tried all,
    /// or when the rest does not answer and others wait for that already.
    pub(super) fn choose(&mut self, tried: &[usize], now: Instant) -> Option<Choice> {
        let untried = |index: &usize| !tried.contains(index);
        let all = 0..self.backends.len();
        let up: Vec<usize> = all
            .clone()
            .filter(untried)
            .filter(|n| self.is_up(*n))
            .collect();
        if !up.is_empty() {
            let due = all.clone().find(|index| self.is_due(*index, now));
            if let Some(index) = due.filter(|_| tried.is_empty()) {
                return Some(self.begin_trial(index, Kind::Trial));
            }
            let index = self.next_of(&up)?;
            return Some(Choice {
                index,
                kind: Kind::Up,
            });
        }
        let rest: Vec<usize> = all
            .filter(untried)
            .filter(|n| !self.is_waited_for(*n))
            .collect();
        let index = self.next_of(&rest)?;
        Some(self.begin_trial(index, Kind::Panic))
    }

    fn next_of(&mut self, candidates: &[usize]) -> Option<usize> {
        let turn = self.turn;
        self.turn = turn.wrapping_add(1);
        candidates.get(turn.checked_rem(candidates.len())?).copied()
    }

    fn begin_trial(&mut self, index: usize, kind: Kind) -> Choice {
        if let Some(ejection) = self.ejection_mut(index) {
            ejection.in_trial = true;
        }
        Choice { index, kind }
    }

    fn ejection(&self, index: usize) -> Option<&Ejection> {
        self.backends.get(index)?.ejection.as_ref()
    }

    fn ejection_mut(&mut self, index: usize) -> Option<&mut Ejection> {
        self.backends.get_mut(index)?.ejection.as_mut()
    }

    fn is_up(&self, index: usize) -> bool {
        self.ejection(index).is_none()
    }

    fn is_due(&self, index: usize, now: Instant) -> bool {
        let ejection = self.ejection(index);
        ejection.is_some_and(|ejection| !ejection.in_trial && ejection.retry <= now)
    }

    /// A connection waits for an answer of it, and is likely to wait for nothing.
    fn is_waited_for(&self, index: usize) -> bool {
        let ejection = self.ejection(index);
        ejection.is_some_and(|ejection| ejection.in_trial && ejection.is_silent)
    }

    /// It has accepted a connection.
    pub(super) fn succeeded(&mut self, choice: Choice) -> Option<Change> {
        let backend = self.backends.get_mut(choice.index)?;
        backend.connections += 1;
        backend.ejection.take().map(|_| Change::Recovered)
    }

    /// It has not. `at` is the time of day.
    pub(super) fn failed(
        &mut self,
        choice: Choice,
        failed: Failed,
        (now, at): (Instant, OffsetDateTime),
    ) -> Option<Change> {
        let backend = self.backends.get_mut(choice.index)?;
        backend.failures += 1;
        let Failed { reason, is_silent } = failed;
        let Some(ejection) = &mut backend.ejection else {
            backend.ejection = Some(Ejection {
                since: at,
                reason,
                is_silent,
                backoff: FIRST_BACKOFF,
                retry: now + FIRST_BACKOFF,
                in_trial: false,
            });
            return Some(Change::Ejected);
        };
        // What began before it was ejected says nothing new.
        if choice.kind != Kind::Up {
            ejection.reason = reason;
            ejection.is_silent = is_silent;
            ejection.in_trial = false;
            if ejection.retry <= now {
                ejection.backoff = (ejection.backoff * 2).min(MAX_BACKOFF);
                ejection.retry = now + ejection.backoff;
            }
        }
        None
    }

    /// The attempt ended without an outcome.
    pub(super) fn abandoned(&mut self, choice: Choice) {
        if choice.kind != Kind::Up
            && let Some(ejection) = self.ejection_mut(choice.index)
        {
            ejection.in_trial = false;
        }
    }
}

#[cfg(test)]
mod tests;
