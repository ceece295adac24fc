//! The CAs of a trust domain at one moment, and what their ages ask for next. Time comes in as an
//! argument.
//!
//! ```text
//!            1/2 of its life          5/6 of its life           its end
//! active ────────┬───────────────────────────┬────────────────────┬
//!                └ next CA prepared:         └ next CA active,    └ old CA leaves
//!                  published in the bundle     this one old         the bundle,
//!                                                                   its key goes
//! ```
//!
//! When the site changes how long its CAs live, the next one is prepared at once, and signs as soon
//! as it has been published for long enough.
//!
//! A CA whose time has not come yet was made by a clock that was wrong. It stays, and the newest
//! old CA that is valid signs again; for that the keys of old CAs stay until they end.

use std::{sync::Arc, time::Duration};

use rcgen::Issuer;
use renkei_api::status::CaState;
use time::OffsetDateTime;

use super::certificate::Validity;
use crate::{keys::CaKey, store::CaRow};

/// The next CA is published for at least so many refresh intervals before it signs, unless the
/// active one would end first.
const PUBLISHED_INTERVALS: u32 = 3;

/// A CA that can sign.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) ca: CaRow,
    pub(super) issuer: Arc<Issuer<'static, CaKey>>,
}

/// One CA that signs, perhaps the next one, and those before.
#[derive(Clone)]
pub(super) struct CaSet {
    pub(super) active: Signer,
    pub(super) prepared: Option<Signer>,
    pub(super) old: Vec<CaRow>,
    pub(super) sequence: u64,
    pub(super) refresh_hint: Duration,
    /// How long a CA is to live, once that is known.
    pub(super) lifetime: Option<Duration>,
}

/// A CA whose time has not come by more than this is not waited for.
const SKEW: time::Duration = time::Duration::minutes(1);

/// The time by which rotation acts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) now: OffsetDateTime,
    /// What has ended by this time may be deleted; nothing where the clock has jumped lately.
    pub(crate) ended: Option<OffsetDateTime>,
}

impl From<OffsetDateTime> for Reading {
    fn from(now: OffsetDateTime) -> Self {
        let ended = Some(now);
        Self { now, ended }
    }
}

/// What has become due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Make the next CA and publish it.
    Prepare,
    /// Let the prepared CA sign.
    Activate,
    /// Take CAs that ended out of the bundle.
    RemoveEnded,
    /// Let another CA sign: the time of the active one has not come.
    Replace,
    /// Prepare another CA: the time of the prepared one has not come.
    SetAside,
}

impl CaSet {
    /// The step that is due now, if any.
    pub(super) fn due(&self, time: Reading) -> Option<Step> {
        let now = time.now;
        let to_come = |ca: &CaRow| ca.not_before - now > SKEW;
        let is_ended = |ca: &CaRow| time.ended.is_some_and(|by| ca.not_after <= by);
        if self.old.iter().any(is_ended) {
            return Some(Step::RemoveEnded);
        }
        if to_come(&self.active.ca) {
            return Some(Step::Replace);
        }
        match &self.prepared {
            Some(next) if to_come(&next.ca) => {
                (now >= self.preparation()).then_some(Step::SetAside)
            }
            Some(next) if !self.has_lifetime(&next.ca) => Some(Step::SetAside),
            Some(_) if now >= self.activation() => Some(Step::Activate),
            None if now >= self.preparation() => Some(Step::Prepare),
            _ => None,
        }
    }

    /// When a step may become due next.
    pub(super) fn next_step(&self) -> OffsetDateTime {
        let rotation = match &self.prepared {
            Some(_) => self.activation(),
            None => self.preparation(),
        };
        self.old
            .iter()
            .map(|ca| ca.not_after)
            .fold(rotation, OffsetDateTime::min)
    }

    /// The old CA that may sign in place of one whose time has not come.
    pub(super) fn valid_old(&self, now: OffsetDateTime) -> Option<&CaRow> {
        let valid =
            |ca: &&CaRow| ca.key_file.is_some() && ca.not_before <= now && ca.not_after > now;
        self.old.iter().filter(valid).max_by_key(|ca| ca.not_after)
    }

    /// Whether a CA lives as long as it is to.
    fn has_lifetime(&self, ca: &CaRow) -> bool {
        let validity = Validity {
            not_before: ca.not_before,
            not_after: ca.not_after,
        };
        self.lifetime
            .is_none_or(|lifetime| validity.is_of(lifetime))
    }

    fn preparation(&self) -> OffsetDateTime {
        match self.has_lifetime(&self.active.ca) {
            true => fraction(&self.active.ca, 1, 2),
            false => self.active.ca.not_before,
        }
    }

    fn activation(&self) -> OffsetDateTime {
        let usual = match self.has_lifetime(&self.active.ca) {
            true => fraction(&self.active.ca, 5, 6),
            false => self.active.ca.not_before,
        };
        let last = fraction(&self.active.ca, 11, 12);
        let known = self.prepared.as_ref().map_or(usual, |next| {
            next.ca.not_before.saturating_add(
                (self.refresh_hint * PUBLISHED_INTERVALS)
                    .try_into()
                    .unwrap_or_default(),
            )
        });
        usual.max(known).min(last)
    }

    /// Every CA in the order of the bundle: the oldest first.
    pub(super) fn authorities(&self) -> Vec<&CaRow> {
        let mut all: Vec<&CaRow> = self.old.iter().collect();
        all.push(&self.active.ca);
        all.extend(self.prepared.iter().map(|next| &next.ca));
        // As the database has them, whichever of them signs.
        all.sort_by_key(|ca| ca.not_before);
        all
    }

    /// The CAs after [`Step::Activate`].
    pub(super) fn activated(&self) -> Self {
        let Some(next) = &self.prepared else {
            return self.clone();
        };
        let mut old = self.old.clone();
        old.push(CaRow {
            state: CaState::Old,
            ..self.active.ca.clone()
        });
        let ca = CaRow {
            state: CaState::Active,
            ..next.ca.clone()
        };
        let active = Signer {
            ca,
            issuer: next.issuer.clone(),
        };
        Self {
            active,
            prepared: None,
            old,
            ..self.clone()
        }
    }
}

fn fraction(ca: &CaRow, part: i32, whole: i32) -> OffsetDateTime {
    ca.not_before + (ca.not_after - ca.not_before) * part / whole
}
