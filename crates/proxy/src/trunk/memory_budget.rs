//! What all trunks of a process hold together. Each is bounded on its own, but a caller who is
//! let in and means harm can open many.

use std::{
    cmp::Ordering,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use super::LEAST_WINDOW;

/// The account of a process.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    most: u64,
    held: AtomicU64,
    trunks: AtomicUsize,
}

/// What a trunk may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// So many bytes more: half of what is left, so that there is something for the next.
    Left(u64),
    /// The process holds more than it may, and this trunk more than its part of that.
    Over,
}

/// The part of one trunk; what it holds is taken off when it goes.
#[derive(Debug)]
pub(super) struct Share {
    held: u64,
}

impl MemoryBudget {
    pub(crate) fn new(most: u64) -> Self {
        Self {
            most,
            held: AtomicU64::new(0),
            trunks: AtomicUsize::new(0),
        }
    }

    pub(super) fn enter(&self) -> Share {
        self.trunks.fetch_add(1, Relaxed);
        Share { held: 0 }
    }

    /// A trunk holds so many bytes now. What that leaves it, if it has changed.
    pub(super) fn note(&self, share: &mut Share, held: u64) -> Option<Room> {
        let before = std::mem::replace(&mut share.held, held);
        let all = match held.cmp(&before) {
            Ordering::Equal => return None,
            Ordering::Less => {
                let fewer = before - held;
                self.held.fetch_sub(fewer, Relaxed).saturating_sub(fewer)
            }
            Ordering::Greater => {
                let more = held - before;
                self.held.fetch_add(more, Relaxed).saturating_add(more)
            }
        };
        if held > before && all > self.most && held > self.part() {
            return Some(Room::Over);
        }
        Some(Room::Left(self.most.saturating_sub(all) / 2))
    }

    /// Whether a trunk may have one more stream: if there is room for what every stream may
    /// have, or the trunk has less than its part.
    pub(super) fn admits(&self, share: &Share) -> bool {
        let all = self.held.load(Relaxed).saturating_add(LEAST_WINDOW);
        all <= self.most || share.held <= self.part()
    }

    fn part(&self) -> u64 {
        self.most / self.trunks.load(Relaxed).max(1) as u64
    }

    pub(super) fn leave(&self, share: &Share) {
        self.held.fetch_sub(share.held, Relaxed);
        self.trunks.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_more_than_its_part_goes_and_nobody_else() {
        let budget = MemoryBudget::new(100);
        let (mut hog, mut small) = (budget.enter(), budget.enter());
        assert_eq!(budget.note(&mut hog, 90), Some(Room::Left(5)));
        assert_eq!(budget.note(&mut small, 10), Some(Room::Left(0)));
        assert_eq!(budget.note(&mut small, 11), Some(Room::Left(0)), "its part");
        assert_eq!(budget.note(&mut hog, 91), Some(Room::Over));
        assert!(budget.admits(&small) && !budget.admits(&hog));
        budget.leave(&hog);
        assert_eq!(budget.note(&mut small, 98), Some(Room::Left(1)));
    }

    #[test]
    fn what_is_let_go_counts_no_more() {
        let budget = MemoryBudget::new(100);
        let mut share = budget.enter();
        for _ in 0..10 {
            assert_eq!(budget.note(&mut share, 100), Some(Room::Left(0)));
            assert_eq!(budget.note(&mut share, 100), None);
            assert_eq!(budget.note(&mut share, 0), Some(Room::Left(50)));
        }
        assert_eq!(budget.held.load(Relaxed), 0);
    }
}
