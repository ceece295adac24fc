//! Whether a link is up, and the lines of the log when that changes.

use renkei_runtime::clock;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use std::net::SocketAddr;

use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{relay::Traffic, trunk::TrunkHandle};

/// One end of a link.
#[derive(Debug)]
pub(crate) struct LinkState {
    /// What people call the other end.
    name: String,
    condition: Mutex<Condition>,
    /// The link that was dialled here, as long as there is one.
    trunk: Mutex<Option<LinkTrunk>>,
    pub(super) traffic: Traffic,
    open: AtomicUsize,
    connections: AtomicU64,
}

/// A link in which streams can be opened.
#[derive(Debug, Clone)]
pub(super) struct LinkTrunk {
    pub(super) trunk: TrunkHandle,
    /// The address of its other end.
    pub(super) gateway: SocketAddr,
    /// Cuts what it carries.
    pub(super) cut: CancellationToken,
}

/// Withdraws a link that is over.
pub(super) struct Usable<'a>(&'a LinkState);

impl Drop for Usable<'_> {
    fn drop(&mut self) {
        let trunk = self.0.trunk.lock();
        *trunk.unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Whether there is a link, since when, and why not.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    pub(super) linked: bool,
    pub(super) since: OffsetDateTime,
    /// The same moment, for measuring.
    pub(super) at: Instant,
    pub(super) reason: Option<String>,
    /// There has been a link before.
    pub(super) ever: bool,
}

impl LinkState {
    pub(super) fn new(name: &str, reason: &str) -> Self {
        Self {
            name: name.to_owned(),
            condition: Mutex::new(Condition::new(false, Some(reason))),
            trunk: Mutex::default(),
            traffic: Traffic::default(),
            open: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn condition(&self) -> Condition {
        self.locked().clone()
    }

    pub(super) fn linked(&self) {
        let mut state = self.locked();
        if !state.linked {
            tracing::info!(peer = self.name, "linked");
            *state = Condition::new(true, None);
        }
    }

    /// The same reason again and again is one line in the log, and one moment.
    pub(super) fn lost(&self, reason: &str) {
        let mut state = self.locked();
        if state.linked {
            *state = Condition {
                ever: true,
                ..Condition::new(false, Some(reason))
            };
        } else if state.reason.as_deref() != Some(reason) {
            state.reason = Some(reason.to_owned());
        } else {
            return;
        }
        match state.ever {
            true => tracing::warn!(peer = self.name, reason, "not linked"),
            // At the start something is always still to come.
            false => tracing::info!(peer = self.name, reason, "not linked yet"),
        }
    }

    /// Streams can be opened in this link until what is returned is dropped.
    pub(super) fn usable(&self, link: LinkTrunk) -> Usable<'_> {
        let trunk = self.trunk.lock();
        *trunk.unwrap_or_else(PoisonError::into_inner) = Some(link);
        Usable(self)
    }

    /// The link in which streams can be opened, or why there is none.
    pub(super) fn trunk(&self) -> Result<LinkTrunk, String> {
        let trunk = self.trunk.lock();
        let trunk = trunk.unwrap_or_else(PoisonError::into_inner).clone();
        trunk.ok_or_else(|| {
            let reason = self.condition().reason.unwrap_or_default();
            format!("it is not linked: {reason}")
        })
    }

    /// Counts a connection, until what is returned is dropped.
    pub(super) fn count(self: &Arc<Self>) -> Counted {
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }

    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    fn locked(&self) -> MutexGuard<'_, Condition> {
        self.condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    fn new(linked: bool, reason: Option<&str>) -> Self {
        Self {
            linked,
            since: clock::now(),
            at: Instant::now(),
            reason: reason.map(str::to_owned),
            ever: linked,
        }
    }
}

/// An open connection of a link.
pub(super) struct Counted(Arc<LinkState>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
