//! What becomes of a trunk when certificates end or do not verify any more.

use std::{sync::Arc, task::Waker};

use renkei_runtime::clock;
use renkei_spiffe::Identities;
use renkei_trunk::Code;
use time::OffsetDateTime;

use super::{core::LaneFate, driver::Driver};
use crate::identity::{Credentials, Fault};

/// What the other end hears when a trunk ends for a fault; the log says which.
const WITHDRAWN: &str = "an identity with which the trunk was made is not valid any more";

impl Driver {
    /// Takes out the lanes that a new handshake with the same certificates would not make now.
    pub(crate) fn drop_faulty(&self, identities: &Arc<Identities>, now: OffsetDateTime) {
        let withdrawn = &self.context.withdrawn;
        let mut faulty = Vec::new();
        for (id, credentials) in self.standing.all() {
            if let Err(fault) = credentials.check(identities, now)
                && fault.ends_what_is_open()
                && !withdrawn.spares(&fault)
            {
                tracing::info!(trunk = ?self.id(), lane = id.number(), %fault, "a lane is cut");
                faulty.push(id);
            }
        }
        if !faulty.is_empty() {
            self.standing.note_dropped();
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

    /// By which certificates the trunk may carry streams now.
    pub(super) fn check_now(&self) -> Result<Arc<Credentials>, Fault> {
        self.check(&self.context.identities(), clock::now())
    }

    /// Takes out the lanes whose certificates became invalid during their handshake.
    pub(super) fn drop_faulty_now(&self) {
        self.drop_faulty(&self.context.identities(), clock::now());
    }

    /// Whether its certificates are what the trunk lacks lanes for, rather than the path.
    pub(crate) fn lacks_certificates(&self) -> bool {
        self.standing.lacks_certificates()
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
