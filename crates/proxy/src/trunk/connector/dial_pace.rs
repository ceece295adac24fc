//! When the lanes of a trunk may be dialled: at once at first, and with a backoff while the other
//! end refuses them.

use std::time::Duration;

use renkei_runtime::backoff::Backoff;
use tokio::time::Instant;

/// The wait after a first failure, and between attempts while the other end is not reached.
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

pub(super) struct DialPace {
    next: Instant,
    /// Of attempts that brought no lane.
    attempts: Backoff,
    /// Of lanes that were lost soon after they had been ready.
    losses: Backoff,
    ready_since: Instant,
}

impl DialPace {
    pub(super) fn new() -> Self {
        Self {
            next: Instant::now(),
            attempts: Backoff::new(FIRST, LONGEST),
            losses: Backoff::new(FIRST, LONGEST),
            ready_since: Instant::now(),
        }
    }

    pub(super) fn allows(&self) -> bool {
        Instant::now() >= self.next
    }

    /// An attempt was made. Unless a lane becomes [ready](Self::ready), the next one waits.
    pub(super) fn tried(&mut self) {
        self.next = Instant::now() + self.attempts.failed();
    }

    /// The other end was not reached. That costs it nothing, and streams wait for the path.
    pub(super) fn not_reached(&mut self) {
        self.next = Instant::now() + FIRST;
    }

    /// A lane is ready; `first` after there was none.
    pub(super) fn ready(&mut self, first: bool) {
        self.attempts.succeeded();
        self.next = Instant::now();
        if first {
            self.ready_since = self.next;
        }
    }

    /// Every lane was lost. The next is dialled at once, unless they were lost soon.
    pub(super) fn lost(&mut self) {
        let now = Instant::now();
        self.next = if now.duration_since(self.ready_since) > LONGEST {
            self.losses.succeeded();
            now
        } else {
            now + self.losses.failed()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(50);

    /// Attempts in an hour, of which each ends with `outcome`.
    async fn attempts(pace: &mut DialPace, outcome: impl Fn(&mut DialPace)) -> usize {
        let (end, mut count) = (Instant::now() + Duration::from_secs(3_600), 0);
        while Instant::now() < end {
            if pace.allows() {
                count += 1;
                pace.tried();
                outcome(pace);
            }
            tokio::time::advance(TICK).await;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_refuses_is_asked_less_and_less() {
        let mut pace = DialPace::new();
        let refused = attempts(&mut pace, |_| ()).await;
        assert!((300..450).contains(&refused), "{refused}");
        pace.ready(true);
        assert!(pace.allows(), "a lane was ready");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_lanes_and_drops_them_is_asked_less_and_less() {
        let mut pace = DialPace::new();
        let dropped = attempts(&mut pace, |pace| {
            pace.ready(true);
            pace.lost();
        });
        let dropped = dropped.await;
        assert!((300..450).contains(&dropped), "{dropped}");
        tokio::time::advance(LONGEST).await;
        pace.ready(true);
        tokio::time::advance(2 * LONGEST).await;
        pace.lost();
        assert!(pace.allows(), "the lanes had lasted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_is_cut_is_tried_often() {
        let mut pace = DialPace::new();
        let tried = attempts(&mut pace, DialPace::not_reached).await;
        assert!(tried > 10_000, "{tried}");
    }
}
