//! Which segments are lost: runs of good and bad segments (Gilbert's model), drawn run by run.
//!
//! Independent losses are the case in which bad runs have a mean of `1 / (1 - loss)`. Drawing runs
//! instead of segments costs nothing for the segments between two losses.

use std::ops::Range;

/// The state of one direction.
#[derive(Debug)]
pub(crate) struct LossProcess {
    good: bool,
    left: u64,
    mean_good: f64,
    mean_bad: f64,
    random: fastrand::Rng,
}

impl LossProcess {
    /// A process that loses the share `loss`, in bursts of a mean of `burst` when given.
    pub(crate) fn new(loss: f64, burst: Option<f64>, random: fastrand::Rng) -> Self {
        let mean_bad = burst.unwrap_or(1.0 / (1.0 - loss));
        let mut process = Self {
            good: true,
            left: u64::MAX,
            mean_good: mean_bad * (1.0 - loss) / loss,
            mean_bad,
            random,
        };
        if loss > 0.0 {
            process.left = process.run(process.mean_good);
        }
        process
    }

    /// Draws the fate of `count` segments: the ranges of those that survive, in order.
    pub(crate) fn survivors(&mut self, count: usize) -> Vec<Range<usize>> {
        let mut kept = Vec::new();
        let mut at = 0;
        while at < count {
            let run = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(count - at);
            if self.good && run > 0 {
                kept.push(at..at + run);
            }
            at += run;
            self.left -= run as u64;
            if self.left == 0 {
                self.turn();
            }
        }
        kept
    }

    /// Whether the next `count` segments all survive; draws their fate only then.
    pub(crate) fn spares(&mut self, count: usize) -> bool {
        let spared = self.good && self.left > count as u64;
        if spared && self.left != u64::MAX {
            self.left -= count as u64;
        }
        spared
    }

    fn turn(&mut self) {
        self.good = !self.good;
        let mean = if self.good {
            self.mean_good
        } else {
            self.mean_bad
        };
        self.left = self.run(mean);
    }

    /// A geometric run length of at least one.
    fn run(&mut self, mean: f64) -> u64 {
        if mean <= 1.0 {
            return 1;
        }
        let uniform = 1.0 - self.random.f64();
        1 + (uniform.ln() / (1.0 - 1.0 / mean).ln()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share lost and the mean length of a burst over a million segments.
    fn measure(loss: f64, burst: Option<f64>) -> (f64, f64) {
        let mut process = LossProcess::new(loss, burst, fastrand::Rng::with_seed(7));
        let (mut lost, mut bursts, mut previous) = (0_u32, 0_u32, true);
        for _ in 0..25_000 {
            let mut alive = [false; 40];
            if process.spares(40) {
                alive = [true; 40];
            } else {
                for range in process.survivors(40) {
                    alive[range].fill(true);
                }
            }
            for survives in alive {
                lost += u32::from(!survives);
                bursts += u32::from(previous && !survives);
                previous = survives;
            }
        }
        (f64::from(lost) / 1e6, f64::from(lost) / f64::from(bursts))
    }

    #[test]
    fn independent_losses_have_the_share_asked_for() {
        let (share, burst) = measure(0.01, None);
        assert!((0.009..0.011).contains(&share), "{share}");
        assert!((1.0..1.05).contains(&burst), "{burst}");
    }

    #[test]
    fn bursts_keep_the_share_and_have_the_length_asked_for() {
        let (share, burst) = measure(0.05, Some(8.0));
        assert!((0.04..0.06).contains(&share), "{share}");
        assert!((7.0..9.0).contains(&burst), "{burst}");
    }

    #[test]
    fn without_loss_all_survive() {
        let (share, _) = measure(0.0, None);
        assert!(share == 0.0, "{share}");
    }
}
