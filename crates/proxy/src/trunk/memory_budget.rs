//! What all trunks of a process hold together. Each is bounded on its own, but a caller who is
//! let in and means harm can open many: so the trunks of one site have a part together.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use renkei_spiffe::TrustDomain;

use super::LEAST_WINDOW;

/// The account of a process.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    most: u64,
    held: AtomicU64,
    sites: Mutex<HashMap<TrustDomain, Weak<SiteShare>>>,
}

/// What a trunk may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// So many bytes more: half of what is left, so that there is something for the next.
    Left(u64),
    /// The process holds more than it may, and this trunk and its site more than their parts of
    /// that.
    Over,
}

/// What the trunks with one other site hold.
#[derive(Debug, Default)]
struct SiteShare {
    held: AtomicU64,
    trunks: AtomicUsize,
}

/// The part of one trunk; what it holds is taken off when it goes.
#[derive(Debug)]
pub(super) struct Share {
    held: u64,
    site: Arc<SiteShare>,
}

impl MemoryBudget {
    pub(crate) fn new(most: u64) -> Self {
        Self {
            most,
            held: AtomicU64::new(0),
            sites: Mutex::default(),
        }
    }

    /// A trunk with this site begins.
    pub(super) fn enter(&self, site: &TrustDomain) -> Share {
        let mut sites = self.sites();
        let known = sites.get(site).and_then(Weak::upgrade);
        let site = known.unwrap_or_else(|| {
            sites.retain(|_, share| share.strong_count() > 0);
            let share = Arc::<SiteShare>::default();
            sites.insert(site.clone(), Arc::downgrade(&share));
            share
        });
        site.trunks.fetch_add(1, Relaxed);
        Share { held: 0, site }
    }

    /// A trunk holds so many bytes now. What that leaves it, if it has changed.
    pub(super) fn note(&self, share: &mut Share, held: u64) -> Option<Room> {
        let before = std::mem::replace(&mut share.held, held);
        let all = match held.cmp(&before) {
            Ordering::Equal => return None,
            Ordering::Less => {
                let fewer = before - held;
                share.site.held.fetch_sub(fewer, Relaxed);
                self.held.fetch_sub(fewer, Relaxed).saturating_sub(fewer)
            }
            Ordering::Greater => {
                let more = held - before;
                share.site.held.fetch_add(more, Relaxed);
                self.held.fetch_add(more, Relaxed).saturating_add(more)
            }
        };
        if held > before && all > self.most && !self.is_within(share) {
            return Some(Room::Over);
        }
        Some(Room::Left(self.most.saturating_sub(all) / 2))
    }

    /// Whether a trunk may have one more stream: if there is room for what every stream may
    /// have, or the trunk or its site has less than its part.
    pub(super) fn admits(&self, share: &Share) -> bool {
        let all = self.held.load(Relaxed).saturating_add(LEAST_WINDOW);
        all <= self.most || self.is_within(share)
    }

    /// Whether the trunk, or its site, holds no more than its part.
    fn is_within(&self, share: &Share) -> bool {
        let site = &share.site;
        let part = self.most / self.sites().len().max(1) as u64;
        let of_trunk = part / site.trunks.load(Relaxed).max(1) as u64;
        site.held.load(Relaxed) <= part || share.held <= of_trunk
    }

    pub(super) fn leave(&self, share: &Share) {
        self.held.fetch_sub(share.held, Relaxed);
        share.site.held.fetch_sub(share.held, Relaxed);
        share.site.trunks.fetch_sub(1, Relaxed);
    }

    fn sites(&self) -> MutexGuard<'_, HashMap<TrustDomain, Weak<SiteShare>>> {
        self.sites.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(name: &str) -> TrustDomain {
        TrustDomain::parse(name).unwrap()
    }

    #[test]
    fn whoever_holds_more_than_its_part_goes_and_nobody_else() {
        let budget = MemoryBudget::new(100);
        let osaka = site("osaka.example");
        let (mut hog, mut small) = (budget.enter(&osaka), budget.enter(&osaka));
        assert_eq!(budget.note(&mut hog, 90), Some(Room::Left(5)));
        assert_eq!(budget.note(&mut small, 10), Some(Room::Left(0)));
        assert_eq!(budget.note(&mut small, 11), Some(Room::Left(0)), "its part");
        assert_eq!(budget.note(&mut hog, 91), Some(Room::Over));
        assert!(budget.admits(&small) && !budget.admits(&hog));
        budget.leave(&hog);
        assert_eq!(budget.note(&mut small, 98), Some(Room::Left(1)));
    }

    #[test]
    fn a_site_with_many_trunks_has_the_part_of_one_site() {
        let budget = MemoryBudget::new(100);
        let (greedy, other) = (site("osaka.example"), site("kyushu.example"));
        let mut many: Vec<Share> = (0..9).map(|_| budget.enter(&greedy)).collect();
        let mut one = budget.enter(&other);
        for share in &mut many {
            assert_ne!(budget.note(share, 10), Some(Room::Over));
        }
        assert_ne!(budget.note(&mut one, 40), Some(Room::Over), "half is its");
        assert!(budget.admits(&one) && !budget.admits(&many[0]));
        assert_eq!(budget.note(&mut many[0], 11), Some(Room::Over));
    }

    #[test]
    fn sites_that_have_gone_have_no_part() {
        let budget = MemoryBudget::new(100);
        for n in 0..1_000 {
            let share = budget.enter(&site(&format!("s{n}.example")));
            budget.leave(&share);
        }
        assert!(budget.sites().len() <= 1);
    }

    #[test]
    fn what_is_let_go_counts_no_more() {
        let budget = MemoryBudget::new(100);
        let mut share = budget.enter(&site("osaka.example"));
        for _ in 0..10 {
            assert_eq!(budget.note(&mut share, 100), Some(Room::Left(0)));
            assert_eq!(budget.note(&mut share, 100), None);
            assert_eq!(budget.note(&mut share, 0), Some(Room::Left(50)));
        }
        assert_eq!(budget.held.load(Relaxed), 0);
    }
}
