//! A trunk for whoever opens streams in it or takes them, other than the callers of one service:
//! the link between a hub and a site that only dials out, in which the hub, the accepting end,
//! opens the streams.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use renkei_runtime::clock;
use renkei_trunk::{Code, Event, StreamId};

use super::{Dialed, TrunkStream, driver::Driver};
use crate::{credentials::Fault, shared::Shared};

/// Hears of everything that concerns the trunk as a whole.
pub(crate) type Watch = Arc<dyn Fn(&Way, &Event) + Send + Sync>;

impl Dialed {
    /// The trunk, for the two ends of a link.
    pub(crate) fn way(&self) -> Way {
        Way(self.driver.clone())
    }
}

/// A trunk, as long as it lasts.
#[derive(Debug, Clone)]
pub(crate) struct Way(Weak<Driver>);

impl Way {
    pub(super) fn of(driver: &Arc<Driver>) -> Self {
        Self(Arc::downgrade(driver))
    }

    pub(super) fn weak(driver: &Weak<Driver>) -> Self {
        Self(driver.clone())
    }

    /// Whether both are the same trunk.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.ptr_eq(&other.0)
    }

    /// Whether a lane carries bytes now.
    pub(crate) fn is_ready(&self) -> bool {
        let driver = self.0.upgrade();
        driver.is_some_and(|driver| driver.with(|core, _| core.trunk.ready_lanes() > 0))
    }

    /// Why no stream may be opened or taken now, if the certificates of the trunk's lanes are
    /// not valid.
    pub(crate) fn fault(&self, shared: &Shared) -> Option<Fault> {
        let driver = self.0.upgrade()?;
        let now = clock::now();
        driver.check(&shared.identities(), now).err()
    }

    /// A stream of the trunk, unless it is over or takes none for now.
    pub(crate) fn open(&self, target: Bytes) -> Option<TrunkStream> {
        let driver = self.0.upgrade()?;
        let id = driver.open(target).ok()?;
        Some(TrunkStream::opened(driver, id))
    }

    /// Takes a stream that the other end opened.
    pub(crate) fn take(&self, id: StreamId) -> Option<TrunkStream> {
        let driver = self.0.upgrade()?;
        let taken = driver.with(|core, _| core.accept(id));
        let stream = TrunkStream::accepted(driver, id);
        taken.is_ok().then_some(stream)
    }

    /// Refuses a stream that the other end opened.
    pub(crate) fn refuse(&self, id: StreamId, code: Code, reason: &str) {
        if let Some(driver) = self.0.upgrade() {
            driver.with(|core, _| core.refuse(id, code, reason));
        }
    }

    /// Takes no streams from now on; those that live go on.
    pub(crate) fn go_away(&self) {
        if let Some(driver) = self.0.upgrade() {
            driver.with(|core, _| core.trunk.go_away());
        }
    }

    /// Ends the trunk, and resets every stream of it.
    pub(crate) fn close(&self, code: Code, text: &str) {
        if let Some(driver) = self.0.upgrade() {
            driver.with(|core, _| core.trunk.close(code, text));
        }
    }
}
