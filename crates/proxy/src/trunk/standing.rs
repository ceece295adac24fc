//! With which certificates the lanes of a trunk were authenticated. A trunk lasts longer than an
//! SVID, so this is asked again for each stream, and lanes whose certificates are not valid any
//! more are taken out.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use renkei_spiffe::Identities;
use renkei_trunk::{Code, LaneId};
use time::OffsetDateTime;

use super::{core::LaneFate, driver::Driver};
use crate::credentials::{Credentials, Fault};

/// What the other end hears when a trunk ends for a fault; the log says which.
const WITHDRAWN: &str = "an identity with which the trunk was made is not valid any more";

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

    fn all(&self) -> Vec<(LaneId, Arc<Credentials>)> {
        let lanes = self.locked();
        let all = lanes.lanes.iter();
        all.map(|(id, credentials)| (*id, credentials.clone()))
            .collect()
    }

    fn locked(&self) -> MutexGuard<'_, Lanes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driver {
    /// Takes out the lanes that a new handshake with the same certificates would not make now.
    pub(crate) fn drop_faulty(&self, identities: &Arc<Identities>, now: OffsetDateTime) {
        let mut faulty = Vec::new();
        for (id, credentials) in self.standing.all() {
            if let Err(fault) = credentials.check(identities, now)
                && fault.ends_what_is_open()
            {
                tracing::info!(lane = id.number(), %fault, "a lane is cut");
                faulty.push(id);
            }
        }
        if !faulty.is_empty() {
            self.standing.locked().dropped = true;
            let mut wakers = Vec::new();
            self.with(|core, now| {
                for id in &faulty {
                    core.trunk.lane_down(now, *id);
                    core.end_lane(*id, LaneFate::Drop, &mut wakers);
                }
            });
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether the trunk may carry streams now.
    pub(crate) fn check(
        &self,
        identities: &Arc<Identities>,
        now: OffsetDateTime,
    ) -> Result<Arc<Credentials>, Fault> {
        self.standing.check(identities, now)
    }

    /// Whether its certificates are what the trunk lacks lanes for, rather than the path.
    pub(crate) fn lacks_certificates(&self) -> bool {
        let lanes = self.standing.locked();
        lanes.dropped || !lanes.lanes.is_empty()
    }

    /// Ends the trunk, and resets its streams at both ends.
    pub(crate) fn revoke(&self) {
        self.with(|core, _| core.trunk.close(Code::REVOKED, WITHDRAWN));
        self.wake_lanes();
    }

    /// When the answer for one of its lanes may change with nothing but the time.
    pub(crate) fn settled_until(&self) -> Option<OffsetDateTime> {
        let all = self.standing.all();
        let latest = self.standing.latest();
        let all = all.iter().map(|(_, credentials)| credentials);
        all.chain(&latest)
            .map(|credentials| credentials.until())
            .min()
    }
}
