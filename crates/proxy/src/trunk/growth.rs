//! How many lanes a trunk needs, judged by what the last ones brought.

use std::time::Duration;

use renkei_trunk::LaneId;
use tokio::time::Instant;

use super::dialer::TICK;

/// Lanes that were not needed for this long go.
const SPARE: Duration = Duration::from_secs(10);
/// After growth that brought nothing, how long until the next attempt.
const CONTENT: Duration = Duration::from_secs(5);

/// A look at a trunk.
pub(super) struct Seen {
    pub(super) lanes: usize,
    /// Every lane has bytes that TCP does not take.
    pub(super) limited: bool,
    pub(super) written: u64,
    pub(super) newest: Option<LaneId>,
}

pub(super) enum Advice {
    Add(usize),
    Close,
    Stay,
}

/// Whether more lanes help, judged by what the last ones brought.
pub(super) struct Growth {
    last: Instant,
    written: u64,
    /// Bytes a second before the last growth.
    before: f64,
    pub(super) rate: f64,
    grown: Option<Instant>,
    content_until: Instant,
    needed: Instant,
}

impl Growth {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            last: now,
            written: 0,
            before: 0.0,
            rate: 0.0,
            grown: None,
            content_until: now,
            needed: now,
        }
    }

    pub(super) fn judge(&mut self, seen: &Seen, adding: usize, most: usize) -> Advice {
        let now = Instant::now();
        let passed = now - self.last;
        if passed < TICK {
            return Advice::Stay;
        }
        let rate = seen.written.saturating_sub(self.written) as f64 / passed.as_secs_f64();
        self.rate = 0.5 * self.rate + 0.5 * rate;
        (self.last, self.written) = (now, seen.written);
        if seen.limited {
            self.needed = now;
        }
        if let Some(grown) = self.grown
            && now - grown > 5 * TICK
        {
            self.grown = None;
            if self.rate < self.before * 1.1 {
                self.content_until = now + CONTENT;
            }
        }
        if seen.limited && adding == 0 && self.grown.is_none() && now >= self.content_until {
            let count = seen.lanes.max(1).min(most.saturating_sub(seen.lanes));
            if count > 0 {
                (self.grown, self.before) = (Some(now), self.rate);
                return Advice::Add(count);
            }
        }
        if seen.lanes > 1 && adding == 0 && now - self.needed > SPARE {
            self.needed = now;
            return Advice::Close;
        }
        Advice::Stay
    }
}
