//! When to ask a peer again (SPIFFE_Federation 4.1: by its refresh hint, 5 minutes without one;
//! 6.2: after a failure not before the next interval).

use std::time::Duration;

use renkei_runtime::backoff::exponential;

const DEFAULT_INTERVAL: Duration = Duration::from_mins(5);
const FLOOR: Duration = Duration::from_mins(1);
/// A peer that asks to be left alone for longer would miss the rotation of its own CA.
const CEILING: Duration = Duration::from_hours(1);
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// A peer that is known by its identity is back as soon as it answers again, so it is asked often.
const SITE_RETRY: Duration = Duration::from_secs(30);

/// The pause until the next fetch.
///
/// `own_refresh` is the refresh interval of the own site: one that is shorter than the floor shows
/// a site that lives faster than usual, and lowers the floor. The caller adds jitter.
pub(super) fn interval(hint: Option<Duration>, own_refresh: Duration) -> Duration {
    let floor = FLOOR.min(own_refresh.max(FIRST_RETRY));
    hint.unwrap_or(DEFAULT_INTERVAL).clamp(floor, CEILING)
}

/// The pause before the first good fetch (6.1: the link is still being established), and before a
/// local file is read again. `failures` counts those so far, at least one.
pub(super) fn first_retry(interval: Duration, failures: u32) -> Duration {
    exponential(FIRST_RETRY, interval, failures)
}

/// The pause before a peer that is known by its identity is asked again after a failure.
pub(super) fn site_retry(interval: Duration, failures: u32) -> Duration {
    first_retry(interval.min(SITE_RETRY), failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const USUAL: Duration = Duration::from_mins(5);

    #[test]
    fn the_hint_counts_within_its_bounds() {
        let middle = |hint, own| interval(hint, own).as_secs_f64().round();
        assert_eq!(middle(None, USUAL), 300.0);
        assert_eq!(middle(Some(Duration::from_mins(10)), USUAL), 600.0);
        assert_eq!(middle(Some(SECOND), USUAL), 60.0);
        assert_eq!(middle(Some(2 * SECOND), SECOND), 2.0);
        assert_eq!(middle(Some(Duration::ZERO), SECOND), 1.0);
        assert_eq!(
            interval(Some(Duration::MAX), USUAL),
            Duration::from_mins(60)
        );
    }

    #[test]
    fn first_attempts_back_off_up_to_the_interval() {
        let after = |failures| first_retry(USUAL, failures).as_secs_f64().round();
        assert_eq!(
            [after(1), after(2), after(3), after(9)],
            [1.0, 2.0, 4.0, 256.0]
        );
        assert_eq!([after(10), after(u32::MAX)], [300.0, 300.0]);
        assert_eq!(site_retry(USUAL, 10).as_secs(), 30);
        assert_eq!(site_retry(2 * SECOND, 10).as_secs(), 2);
    }
}
