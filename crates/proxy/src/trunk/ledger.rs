//! What all trunks of a process hold together. Each is bounded on its own, but a caller who is
//! let in and means harm can open many.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// The account of a process.
#[derive(Debug)]
pub(crate) struct Ledger {
    most: u64,
    held: AtomicU64,
    trunks: AtomicUsize,
}

/// The part of one trunk; what it holds is taken off when it goes.
#[derive(Debug)]
pub(super) struct Share {
    held: u64,
}

impl Ledger {
    pub(crate) fn new(most: u64) -> Self {
        Self {
            most,
            held: AtomicU64::new(0),
            trunks: AtomicUsize::new(0),
        }
    }

    pub(super) fn enter(&self) -> Share {
        self.trunks.fetch_add(1, Ordering::Relaxed);
        Share { held: 0 }
    }

    /// A trunk holds so many bytes now. `false` if that is too much: the process holds more than
    /// it may, and this trunk more than its part of that.
    pub(super) fn note(&self, share: &mut Share, held: u64) -> bool {
        let before = std::mem::replace(&mut share.held, held);
        let all = match held.cmp(&before) {
            std::cmp::Ordering::Equal => return true,
            std::cmp::Ordering::Less => {
                self.held.fetch_sub(before - held, Ordering::Relaxed);
                return true;
            }
            std::cmp::Ordering::Greater => {
                self.held.fetch_add(held - before, Ordering::Relaxed) + held - before
            }
        };
        let part = self.most / self.trunks.load(Ordering::Relaxed).max(1) as u64;
        all <= self.most || held <= part
    }

    pub(super) fn leave(&self, share: &Share) {
        self.held.fetch_sub(share.held, Ordering::Relaxed);
        self.trunks.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_more_than_its_part_goes_and_nobody_else() {
        let ledger = Ledger::new(100);
        let (mut hog, mut small) = (ledger.enter(), ledger.enter());
        assert!(ledger.note(&mut hog, 90), "alone it may hold nearly all");
        assert!(ledger.note(&mut small, 10));
        assert!(ledger.note(&mut small, 11), "over, but within its part");
        assert!(!ledger.note(&mut hog, 91));
        ledger.leave(&hog);
        assert!(ledger.note(&mut small, 99));
    }

    #[test]
    fn what_is_let_go_counts_no_more() {
        let ledger = Ledger::new(100);
        let mut share = ledger.enter();
        for _ in 0..10 {
            assert!(ledger.note(&mut share, 100));
            assert!(ledger.note(&mut share, 0));
        }
        assert_eq!(ledger.held.load(Ordering::Relaxed), 0);
    }
}
