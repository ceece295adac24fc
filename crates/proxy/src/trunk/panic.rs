//! A trunk whose task panics ends: its streams must not wait for a task that is gone.

use std::sync::{Arc, Weak};

use renkei_trunk::Code;

use super::driver::Driver;

/// Every task of a trunk has one.
pub(super) struct EndOnPanic(Weak<Driver>);

impl EndOnPanic {
    pub(super) fn of(driver: &Arc<Driver>) -> Self {
        Self(Arc::downgrade(driver))
    }

    pub(super) fn weak(driver: &Weak<Driver>) -> Self {
        Self(driver.clone())
    }
}

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(driver) = self.0.upgrade()
        {
            let text = "a task of the trunk failed";
            driver.with(|core, _| core.trunk.close(Code::STOPPING, text));
        }
    }
}
