//! A trunk whose task panics ends: its streams must not wait for a task that is gone.

use std::sync::{Arc, Weak};

use renkei_trunk::Code;

use super::{driver::Driver, way::Way};

/// Held by every task of a trunk.
pub(super) struct EndOnPanic(Way);

impl EndOnPanic {
    pub(super) fn of(driver: &Arc<Driver>) -> Self {
        Self(Way::of(driver))
    }

    pub(super) fn weak(driver: &Weak<Driver>) -> Self {
        Self(Way::weak(driver))
    }
}

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = "a task of the trunk failed";
            self.0.close(Code::STOPPING, text);
        }
    }
}
