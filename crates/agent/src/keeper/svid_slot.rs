//! The state of one identity: its SVID, and when it is renewed.

use std::{sync::Arc, time::Duration};

use renkei_api::status::SvidStatus;
use renkei_spiffe::{BundleSet, SpiffeId, X509Svid};
use time::OffsetDateTime;

use super::RequestError;
use renkei_runtime::backoff::{Backoff, jitter};

/// No wait after a failure is longer.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct SvidSlot {
    svid: Option<Arc<X509Svid>>,
    /// When the next request is due; at once, if `None`.
    due: Option<OffsetDateTime>,
    requested: bool,
    /// What the present request brings is to be renewed at once.
    again: bool,
    backoff: Backoff,
    issued: u64,
    last_error: Option<String>,
    /// The bundles by which the issuer was last found to be current.
    checked: Option<Arc<BundleSet>>,
}

impl SvidSlot {
    /// An SVID that is in use, of which nothing else is known: it is renewed at once.
    pub(super) fn left(svid: Arc<X509Svid>) -> Self {
        Self {
            svid: Some(svid),
            issued: 1,
            ..Self::default()
        }
    }

    pub(super) fn svid(&self) -> Option<&Arc<X509Svid>> {
        self.svid.as_ref()
    }

    /// Asks `withdrawn` once for each change of the bundles; makes the SVID due if it says so.
    pub(super) fn check_issuer(
        &mut self,
        bundles: &Arc<BundleSet>,
        withdrawn: impl Fn(&Arc<X509Svid>) -> bool,
    ) -> bool {
        if self
            .checked
            .as_ref()
            .is_some_and(|checked| Arc::ptr_eq(checked, bundles))
        {
            return false;
        }
        self.checked = Some(Arc::clone(bundles));
        let is_withdrawn = self.svid.as_ref().is_some_and(withdrawn);
        // What failed may have failed for want of these bundles.
        if is_withdrawn || self.svid.is_none() {
            self.due = None;
        }
        is_withdrawn
    }

    /// Makes the SVID due, and what a request under way brings as well.
    pub(super) fn renew_now(&mut self) {
        self.due = None;
        self.again = self.requested;
    }

    /// Whether to ask now; if so, a request counts as running until it is answered.
    pub(super) fn begin_if_due(&mut self, now: OffsetDateTime) -> bool {
        let begins = !self.requested && self.due.is_none_or(|due| self.is_due(due, now));
        self.requested |= begins;
        begins
    }

    /// Also at a time further away than any that is set: the clock has gone back since.
    fn is_due(&self, due: OffsetDateTime, now: OffsetDateTime) -> bool {
        let life = self.svid.as_ref().map_or(LONGEST_WAIT, |svid| {
            Duration::try_from(svid.not_after() - svid.not_before()).unwrap_or_default()
        });
        due <= now || due - now > life.max(LONGEST_WAIT)
    }

    /// Takes the SVID into use; returns whether it renews an earlier one.
    pub(super) fn issued(
        &mut self,
        svid: Arc<X509Svid>,
        bundles: &Arc<BundleSet>,
        now: OffsetDateTime,
    ) -> bool {
        let life = Duration::try_from(svid.not_after() - now).unwrap_or_default();
        *self = Self {
            due: (!self.again).then(|| now + jitter(life / 2)),
            again: false,
            svid: Some(svid),
            requested: false,
            backoff: Backoff::default(),
            issued: self.issued + 1,
            last_error: None,
            checked: Some(Arc::clone(bundles)),
        };
        self.issued > 1
    }

    /// Keeps the SVID that there is; returns how long the next request waits.
    pub(super) fn failed(&mut self, error: &RequestError, now: OffsetDateTime) -> Duration {
        let wait = self.backoff.failed();
        (self.requested, self.again) = (false, false);
        self.due = Some(now + wait);
        self.last_error = Some(error.to_string());
        wait
    }

    /// Lets go of an SVID that has ended, or whose time has not come: peers would refuse both.
    pub(super) fn drop_invalid(&mut self, now: OffsetDateTime) {
        let is_invalid =
            |svid: &mut Arc<X509Svid>| svid.not_after() <= now || svid.not_before() > now;
        if self.svid.take_if(is_invalid).is_some() && self.last_error.is_none() {
            self.due = None;
        }
    }

    /// When to ask, unless a request is running.
    pub(super) fn due(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let at = match self.due {
            Some(due) if !self.is_due(due, now) => due,
            _ => OffsetDateTime::UNIX_EPOCH,
        };
        (!self.requested).then_some(at)
    }

    /// When the SVID ends.
    pub(super) fn end(&self) -> Option<OffsetDateTime> {
        self.svid.as_ref().map(|svid| svid.not_after())
    }

    pub(super) fn status(&self, id: &SpiffeId) -> SvidStatus {
        SvidStatus {
            id: id.clone(),
            serial: self.svid.as_ref().map(|svid| svid.serial().to_owned()),
            not_after: self.svid.as_ref().map(|svid| svid.not_after()),
            renewals: self.issued.saturating_sub(1),
            next_renewal: self.due,
            last_error: self.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use renkei_api::issue::IssueError;
    use renkei_spiffe::PrivateKey;
    use renkei_testkit::TestAuthority;

    use super::*;

    #[test]
    fn an_svid_whose_time_has_not_come_is_let_go_and_asked_for_again() {
        let authority = TestAuthority::new("osaka.example");
        let issued = authority.issue("/one");
        let key = PrivateKey::from_pkcs8(issued.key_pkcs8.clone());
        let svid = Arc::new(X509Svid::new(issued.chain.clone(), key).unwrap());
        let now = svid.not_before() + Duration::from_secs(60);
        let mut slot = SvidSlot::default();
        assert!(slot.begin_if_due(now));
        slot.issued(svid.clone(), &Arc::default(), now);
        slot.drop_invalid(now);
        assert!(slot.svid().is_some() && !slot.begin_if_due(now));
        // The clock goes back behind its start.
        let back = svid.not_before() - Duration::from_secs(3600 * 24 * 365);
        slot.drop_invalid(back);
        assert!(slot.svid().is_none() && slot.begin_if_due(back));
        // A failure then waits for its own time only, wherever the clock goes.
        slot.failed(
            &RequestError::Issue(IssueError::Unavailable("down".into())),
            now,
        );
        assert!(slot.begin_if_due(back));
    }
}
