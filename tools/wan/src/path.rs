//! What the path between the two sides does to packets.

use std::time::Duration;

use thiserror::Error;

/// The least drop-tail queue before a rate limit.
const LEAST_QUEUE: u64 = 256 * 1024;
/// The path's bytes that may be under way in one direction when nothing else is said: 16 ms of
/// 64 Gbit/s.
const IN_FLIGHT: usize = 128 << 20;

/// The path, the same in both directions. Every field may change while packets flow, except the
/// bound on bytes in flight.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// Round-trip time; half of it each way.
    pub rtt: Duration,
    /// Up to this much more delay each way, evenly spread. Packets are never reordered by it.
    pub jitter: Duration,
    /// Bits per second each way; unlimited when `None`.
    pub rate: Option<u64>,
    /// Bytes that wait before the rate limit; more are dropped. `None`: one bandwidth-delay
    /// product, at least 256 KiB.
    pub queue: Option<u64>,
    /// The share of segments that is lost, from 0 to less than 1.
    pub loss: f64,
    /// The mean number of segments lost in a row (Gilbert's model, all lost in the bad state).
    /// `None`: losses independent of one another.
    pub burst: Option<f64>,
    /// Bytes under way in one direction, in the path and in the queue together; more are dropped.
    pub in_flight: usize,
}

/// A path that cannot be.
#[derive(Debug, Error, PartialEq)]
pub enum PathError {
    /// Loss is a share.
    #[error("a loss of {0} is not a share from 0 to less than 1 (to lose all, cut the path)")]
    Loss(f64),
    /// A burst has at least as many segments as independent losses have in a row.
    #[error("bursts of {burst} segments are shorter than independent losses give: {least:.3}")]
    Burst {
        /// What was asked for.
        burst: f64,
        /// What independent losses give.
        least: f64,
    },
    /// A rate of nothing.
    #[error("a rate of 0 bit/s carries nothing (to lose all, cut the path)")]
    Rate,
    /// The bound in flight is below a super-packet.
    #[error("{0} bytes in flight do not hold four packets of 64 KiB")]
    InFlight(usize),
}

impl Path {
    /// A path without loss, limit or jitter.
    pub fn new(rtt: Duration) -> Self {
        Self {
            rtt,
            jitter: Duration::ZERO,
            rate: None,
            queue: None,
            loss: 0.0,
            burst: None,
            in_flight: IN_FLIGHT,
        }
    }

    /// The same path with random loss.
    pub fn with_loss(mut self, loss: f64) -> Self {
        self.loss = loss;
        self
    }

    /// Whether such a path can be.
    pub fn check(&self) -> Result<(), PathError> {
        if !(0.0..1.0).contains(&self.loss) {
            return Err(PathError::Loss(self.loss));
        }
        let least = 1.0 / (1.0 - self.loss);
        if let Some(burst) = self.burst
            && !(burst.is_finite() && burst >= least)
        {
            return Err(PathError::Burst { burst, least });
        }
        if self.rate == Some(0) {
            return Err(PathError::Rate);
        }
        if self.in_flight < 4 * crate::packet::LARGEST {
            return Err(PathError::InFlight(self.in_flight));
        }
        Ok(())
    }

    /// The bytes that may wait before a limit of `rate` bits per second.
    pub(crate) fn queue_at(&self, rate: u64) -> u64 {
        let product = self.rtt.as_secs_f64() * rate as f64 / 8.0;
        self.queue.unwrap_or((product as u64).max(LEAST_QUEUE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_cannot_be_are_refused() {
        let path = Path::new(Duration::from_millis(23));
        assert_eq!(path.check(), Ok(()));
        for loss in [-0.1, 1.0, f64::NAN] {
            assert!(path.clone().with_loss(loss).check().is_err(), "{loss}");
        }
        let mut bursts = path.clone().with_loss(0.5);
        bursts.burst = Some(1.5);
        assert!(bursts.check().is_err());
        bursts.burst = Some(2.5);
        assert_eq!(bursts.check(), Ok(()));
        let silent = Path {
            rate: Some(0),
            ..path
        };
        assert_eq!(silent.check(), Err(PathError::Rate));
    }
}
