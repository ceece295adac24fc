//! Which trunks there are, for those who ask: counted then, from the trunks themselves, so that
//! no byte and no connection costs anything for it. Nothing is kept alive by being counted.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use renkei_api::status::TrunkCount;

use super::driver::Driver;
use crate::identity::Pair;

/// All trunks of a proxy.
#[derive(Debug, Default)]
pub(crate) struct TrunkTable(Mutex<Vec<(Pair, Weak<Driver>)>>);

impl TrunkTable {
    /// Counts a trunk from now on, until it is over.
    pub(super) fn enter(&self, pair: Pair, driver: &Arc<Driver>) {
        let mut all = self.all();
        all.retain(|(_, driver)| driver.strong_count() > 0);
        all.push((pair, Arc::downgrade(driver)));
    }

    /// The trunks of every pair that has any.
    pub(crate) fn count(&self) -> BTreeMap<Pair, TrunkCount> {
        // A trunk may be busy: asked outside the lock, so that new ones need not wait for it.
        let all = self.all().clone();
        let mut counts: BTreeMap<Pair, TrunkCount> = BTreeMap::new();
        for (pair, driver) in all {
            if let Some(lanes) = lanes(&driver) {
                let count = counts.entry(pair).or_default();
                count.trunks += 1;
                count.lanes += lanes;
            }
        }
        counts
    }

    /// The trunks themselves, of either side's making.
    pub(crate) fn trunks(&self) -> Vec<(Pair, Arc<Driver>)> {
        let all = self.all();
        let held = all
            .iter()
            .map(|(pair, driver)| Some((pair.clone(), driver.upgrade()?)));
        held.flatten().collect()
    }

    fn all(&self) -> MutexGuard<'_, Vec<(Pair, Weak<Driver>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing for a trunk that is over. The callee's end cannot tell one that has taken leave from
/// one that may return; without streams that makes no difference.
fn lanes(driver: &Weak<Driver>) -> Option<usize> {
    let driver = driver.upgrade()?;
    driver.act(|core, _| {
        let lanes = core.trunk.ready_lanes();
        let open = core.trunk.closed().is_none();
        (open && (lanes > 0 || core.trunk.streams() > 0)).then_some(lanes)
    })
}
