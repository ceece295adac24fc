//! How long to wait after a failure: longer each time, up to a bound, never the same for all.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Counts failures in a row.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Backoff(u32);

impl Backoff {
    /// The wait after one more failure.
    pub(crate) fn failed(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.0.min(10));
        self.0 = self.0.saturating_add(1);
        jitter(doubled.min(LONGEST))
    }
}

/// Plus or minus 10 %, so that many agents do not ask at the same moment.
pub(crate) fn jitter(around: Duration) -> Duration {
    // A freshly seeded hasher is as good a die as any.
    let thousandth = RandomState::new().hash_one(0) % 201;
    around.mul_f64(0.9 + thousandth as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..40).map(|_| backoff.failed()).collect();
        assert!(
            waits[0] >= FIRST.mul_f64(0.9) && waits[0] <= FIRST.mul_f64(1.1),
            "{waits:?}"
        );
        assert!(
            waits.windows(2).take(6).all(|pair| pair[0] < pair[1]),
            "{waits:?}"
        );
        assert!(
            waits.iter().all(|wait| *wait <= LONGEST.mul_f64(1.1)),
            "{waits:?}"
        );
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
