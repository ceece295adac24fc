//! When certificates in use end next.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use time::OffsetDateTime;
use tokio::sync::Notify;

/// The next moment at which something that is open may have to end.
#[derive(Debug)]
pub(crate) struct Expiry {
    /// Milliseconds since 1970.
    at: AtomicI64,
    sooner: Notify,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            at: AtomicI64::new(i64::MAX),
            sooner: Notify::new(),
        }
    }
}

impl Expiry {
    /// Something ends then.
    pub(crate) fn note(&self, at: OffsetDateTime) {
        let at = millis(at);
        if self.at.fetch_min(at, Ordering::SeqCst) > at {
            self.sooner.notify_one();
        }
    }

    /// How long it is until then.
    pub(crate) fn left(&self, now: OffsetDateTime) -> Duration {
        let left = self.at.load(Ordering::SeqCst).saturating_sub(millis(now));
        Duration::from_millis(left.max(0).unsigned_abs())
    }

    /// Ready when the moment has become an earlier one.
    pub(crate) async fn sooner(&self) {
        self.sooner.notified().await;
    }

    /// Nothing ends from now on, until it is noted again.
    pub(crate) fn forget(&self) {
        self.at.store(i64::MAX, Ordering::SeqCst);
    }
}

/// Rounded up, so that what ends then has ended.
fn millis(at: OffsetDateTime) -> i64 {
    let millis = at.unix_timestamp_nanos().div_euclid(1_000_000) + 1;
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_earliest_moment_counts_until_it_is_forgotten() {
        let expiry = Expiry::default();
        let now = OffsetDateTime::UNIX_EPOCH;
        let seconds = |count| now + time::Duration::seconds(count);
        expiry.note(seconds(10));
        assert!(expiry.sooner().now_or_never().is_some());
        expiry.note(seconds(20));
        assert!(expiry.sooner().now_or_never().is_none(), "it is later");
        assert_eq!(expiry.left(now), Duration::from_millis(10_000));
        assert_eq!(expiry.left(seconds(30)), Duration::ZERO);
        expiry.forget();
        assert!(expiry.left(seconds(30)) > Duration::from_secs(1_000_000));
    }
}
