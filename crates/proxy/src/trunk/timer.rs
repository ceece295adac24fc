//! The timer of a trunk, which every trunk starts with.

use std::sync::{Arc, Weak};

use renkei_spiffe::TrustDomain;
use renkei_trunk::{Event, Trunk};
use tokio::sync::{Notify, mpsc};

use super::{TrunkContext, driver::Driver, panic::EndOnPanic};

/// Starts a trunk with the site `remote`: its driver, and the events that its own task follows.
pub(super) fn start(
    trunk: Trunk,
    remote: &TrustDomain,
    context: &Arc<TrunkContext>,
) -> (Arc<Driver>, mpsc::UnboundedReceiver<Event>) {
    let (driver, events) = Driver::new(trunk, remote, context);
    tokio::spawn(keep_time(Arc::downgrade(&driver), driver.timer.clone()));
    (driver, events)
}

/// Calls the trunk when its time has come, until it is over or dropped.
async fn keep_time(driver: Weak<Driver>, timer: Arc<Notify>) {
    let _end = EndOnPanic::weak(&driver);
    let next = |driver: &Weak<Driver>| driver.upgrade()?.next_timeout();
    while let Some(next) = next(&driver) {
        tokio::select! {
            () = timer.notified() => continue,
            () = tokio::time::sleep_until(next.into()) => {}
        }
        let Some(held) = driver.upgrade() else { return };
        held.with(|core, now| core.trunk.handle_timeout(now));
        held.wake_lanes();
    }
}
