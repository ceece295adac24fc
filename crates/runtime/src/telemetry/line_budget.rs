//! A bound on log lines of one kind: who causes them must not be able to fill the disk.

use std::time::{Duration, Instant};

/// Lines of one kind that are written in a [`WINDOW`].
pub(super) const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(10);

/// What is left of the lines of one kind.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LineBudget {
    window: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl LineBudget {
    /// Takes a line: gives how many were left out before it, or nothing when it is to be left out
    /// too.
    pub(super) fn take(&mut self, now: Instant) -> Option<u64> {
        if self.has_room(now, LINES) {
            return Some(self.write());
        }
        self.leave_out(1);
        None
    }

    /// Whether fewer than so many lines were written in this window.
    pub(super) fn has_room(&mut self, now: Instant, lines: u32) -> bool {
        if self.is_over(now) {
            self.window = Some(now);
            self.written = 0;
        }
        self.written < lines
    }

    /// Counts a line that is written; gives how many were left out before it.
    pub(super) fn write(&mut self) -> u64 {
        self.written += 1;
        std::mem::take(&mut self.left_out)
    }

    /// Counts lines that are not written.
    pub(super) fn leave_out(&mut self, lines: u64) {
        self.left_out += lines;
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whether its window is over.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        let is_over = |start: Instant| now.saturating_duration_since(start) >= WINDOW;
        self.window.is_none_or(is_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_few_lines_and_the_next_one_says_how_many_there_were() {
        let mut budget = LineBudget::default();
        let start = Instant::now();
        let written = (0..10_000).filter(|_| budget.take(start).is_some()).count();
        assert_eq!(written, 20);
        assert_eq!(budget.take(start + WINDOW), Some(9_980));
        assert_eq!(budget.take(start + WINDOW), Some(0));
    }

    #[test]
    fn what_happens_now_and_then_is_always_written() {
        let mut budget = LineBudget::default();
        let start = Instant::now();
        for second in 0..1_000 {
            let now = start + Duration::from_secs(second);
            assert_eq!(budget.take(now), Some(0));
        }
    }
}
