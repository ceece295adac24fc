//! What the connector remembers of each caller, callee and gateway: their trunk, or that there is
//! none to be had.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::Opened;
use crate::{
    identity::Credentials,
    trunk::{TrunkStream, driver::Driver},
};

/// A peer that knows no trunks is asked again after this long: it may have been upgraded.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(60);

/// What is known about the path from a caller to a callee.
#[derive(Debug, Default)]
pub(super) enum TrunkSlot {
    /// Nothing has been dialled yet.
    #[default]
    Unknown,
    /// The other end knew no trunks when it was asked.
    NoTrunks(Instant),
    /// There is a trunk.
    Trunk(Dialed),
}

/// A trunk that was dialled.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) driver: Weak<Driver>,
    pub(super) remote: SocketAddr,
    pub(super) alpn: Arc<[u8]>,
}

impl Dialed {
    /// A stream of the trunk. Nothing if the trunk is over, takes no streams yet, or was made
    /// with certificates that are not valid now.
    pub(super) fn open(&self, target: Bytes) -> Option<Opened> {
        let (driver, credentials) = self.usable()?;
        let id = driver.open(target).ok()?;
        driver.used.note();
        Some(Opened {
            stream: TrunkStream::opened(driver, id),
            remote: self.remote,
            alpn: self.alpn.clone(),
            svid_not_after: credentials.own().not_after(),
        })
    }

    /// The trunk, with certificates that are valid now.
    pub(super) fn usable(&self) -> Option<(Arc<Driver>, Arc<Credentials>)> {
        let driver = self.driver.upgrade()?;
        let credentials = driver.check_now().ok()?;
        Some((driver, credentials))
    }

    /// The trunk, if it waits for a lane that could not be dialed.
    pub(super) fn stranded(&self) -> Option<Arc<Driver>> {
        let (driver, _) = self.usable()?;
        driver.stranded.load(Ordering::Acquire).then_some(driver)
    }
}

/// Whether someone waits for the slot, or it knows something.
pub(super) fn is_in_use(slot: &Arc<tokio::sync::Mutex<TrunkSlot>>) -> bool {
    if Arc::strong_count(slot) > 1 {
        return true;
    }
    slot.try_lock().map_or(true, |slot| match &*slot {
        TrunkSlot::Unknown => false,
        TrunkSlot::NoTrunks(asked) => asked.elapsed() < ASK_AGAIN,
        TrunkSlot::Trunk(trunk) => trunk.driver.strong_count() > 0,
    })
}
