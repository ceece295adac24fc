//! How long to wait after a failure: longer each time, up to a bound, never the same for all.

use std::time::Duration;

/// Counts failures in a row.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits `first` after the first failure, and up to `longest` after more.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            failures: 0,
        }
    }

    /// The wait after one more failure, with jitter.
    pub fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        jitter(exponential(self.first, self.longest, self.failures))
    }

    /// Starts again from the first wait.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// For clients of local services: 200 ms up to 30 s.
impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(30))
    }
}

/// The wait after so many failures in a row, at least one, without jitter.
pub fn exponential(first: Duration, longest: Duration, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    first.saturating_mul(1 << doublings).min(longest)
}

/// Plus or minus 10 %, so that many do not ask at the same moment.
pub fn jitter(around: Duration) -> Duration {
    around.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound() {
        let (first, longest) = (Duration::from_millis(200), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, longest);
        let waits: Vec<_> = (0..40).map(|_| backoff.failed()).collect();
        assert!(
            waits[0] >= first.mul_f64(0.9) && waits[0] <= first.mul_f64(1.1),
            "{waits:?}"
        );
        assert!(
            waits.windows(2).take(6).all(|pair| pair[0] < pair[1]),
            "{waits:?}"
        );
        assert!(
            waits.iter().all(|wait| *wait <= longest.mul_f64(1.1)),
            "{waits:?}"
        );
    }

    #[test]
    fn success_begins_again_and_no_count_overflows() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_mins(5));
        let mut backoff = Backoff::new(first, longest);
        backoff.failed();
        backoff.failed();
        backoff.succeeded();
        assert!(backoff.failed() <= first.mul_f64(1.1));
        assert_eq!(exponential(first, longest, u32::MAX), longest);
        assert_eq!(exponential(first, longest, 3), 4 * first);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let hour = Duration::from_secs(3600);
        let drawn: Vec<_> = (0..500).map(|_| jitter(hour)).collect();
        assert!(
            drawn
                .iter()
                .all(|d| *d >= hour.mul_f64(0.9) && *d <= hour.mul_f64(1.1001))
        );
        assert!(drawn.iter().any(|d| *d < hour) && drawn.iter().any(|d| *d > hour));
    }
}
