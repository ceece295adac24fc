//! With which certificates the lanes of a trunk were authenticated. A trunk lasts longer than an
//! SVID, so this is asked again for each stream, and lanes whose certificates are not valid any
//! more are taken out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use renkei_spiffe::Identities;
use renkei_trunk::LaneId;
use time::OffsetDateTime;

use crate::identity::{Credentials, Fault};

/// The credentials of a trunk's lanes.
#[derive(Debug, Default)]
pub(super) struct Standing(Mutex<Lanes>);

#[derive(Debug, Default)]
struct Lanes {
    lanes: BTreeMap<LaneId, Arc<Credentials>>,
    /// Those of the lane that came last; that lane may have gone since.
    latest: Option<Arc<Credentials>>,
    /// Lanes were taken out for their certificates, and none has come since.
    dropped: bool,
}

impl Standing {
    /// A lane comes. Lanes with the same certificates share what is found out about them.
    pub(super) fn enter(&self, lane: LaneId, credentials: Arc<Credentials>) {
        let mut lanes = self.locked();
        let known = lanes.latest.take_if(|latest| latest.is_same(&credentials));
        let credentials = known.unwrap_or(credentials);
        lanes.latest = Some(credentials.clone());
        lanes.dropped = false;
        lanes.lanes.insert(lane, credentials);
    }

    pub(super) fn leave(&self, lane: LaneId) {
        self.locked().lanes.remove(&lane);
    }

    pub(super) fn latest(&self) -> Option<Arc<Credentials>> {
        self.locked().latest.clone()
    }

    /// Whether the trunk may carry streams now, and by which certificates.
    pub(super) fn check(
        &self,
        identities: &Arc<Identities>,
        now: OffsetDateTime,
    ) -> Result<Arc<Credentials>, Fault> {
        let latest = self.latest().ok_or(Fault::NoLane)?;
        let Err(fault) = latest.check(identities, now) else {
            return Ok(latest);
        };
        let mut others = self.all().into_iter().map(|(_, credentials)| credentials);
        let valid = others.find(|other| other.check(identities, now).is_ok());
        valid.ok_or(fault)
    }

    pub(super) fn all(&self) -> Vec<(LaneId, Arc<Credentials>)> {
        let lanes = self.locked();
        let all = lanes.lanes.iter();
        all.map(|(id, credentials)| (*id, credentials.clone()))
            .collect()
    }

    /// Lanes are taken out for their certificates.
    pub(super) fn note_dropped(&self) {
        self.locked().dropped = true;
    }

    /// Whether certificates are what the trunk lacks lanes for, rather than the path.
    pub(super) fn lacks_certificates(&self) -> bool {
        let lanes = self.locked();
        lanes.dropped || !lanes.lanes.is_empty()
    }

    fn locked(&self) -> MutexGuard<'_, Lanes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
