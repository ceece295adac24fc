//! A trunk, for those that open streams in it or end it.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use renkei_trunk::Code;

use super::{TrunkStream, driver::Driver};
use crate::identity::Fault;

/// A trunk, as long as it lasts.
#[derive(Debug, Clone)]
pub(crate) struct TrunkHandle(Weak<Driver>);

impl TrunkHandle {
    pub(super) fn of(driver: &Arc<Driver>) -> Self {
        Self(Arc::downgrade(driver))
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
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.0.upgrade()?.check_now().err()
    }

    /// Streams that the other end takes at once.
    pub(crate) fn streams_allowed(&self) -> usize {
        let driver = self.0.upgrade();
        driver.map_or(0, |driver| {
            driver.act(|core, _| core.trunk.streams_allowed())
        })
    }

    /// A stream of the trunk, unless it is over or takes no more.
    pub(crate) fn open(&self, target: Bytes) -> Result<TrunkStream, renkei_trunk::OpenError> {
        let driver = self.0.upgrade().ok_or(renkei_trunk::OpenError::Closed)?;
        let id = driver.open(target)?;
        Ok(TrunkStream::opened(driver, id))
    }

    /// Takes no streams from now on; those that are open continue.
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
