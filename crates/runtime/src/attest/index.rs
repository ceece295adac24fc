//! Entries by their selectors, so that the entries of one process are found without looking at
//! those of all others.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use renkei_site::{Selector, UnixSelector};

use crate::process::{group_id, user_id};

/// How long the user database's word on the names of an index is taken without asking again: with
/// few names and an answer for each, with many, and at most.
const FRESH: Duration = Duration::from_secs(1);
const TIMES_ASKING: u32 = 20;
const STALE: Duration = Duration::from_mins(1);
/// How long the user database is asked for the names of one index.
const ASKING: Duration = Duration::from_secs(10);

/// Lists of selectors, each filed under the one of its selectors that the fewest others are filed
/// under. Lists are named by their position.
#[derive(Debug, Default)]
pub struct SelectorIndex {
    filed: HashMap<Selector, Vec<usize>>,
    /// Those of the keys that are names.
    names: Vec<Selector>,
    resolved: Mutex<Option<Resolved>>,
    files_paths: bool,
    files_digests: bool,
}

/// Which names stand for which number, as the user database said a moment ago.
#[derive(Debug, Clone)]
struct Resolved {
    until: Instant,
    users: Arc<HashMap<u32, Vec<Selector>>>,
    groups: Arc<HashMap<u32, Vec<Selector>>>,
}

impl SelectorIndex {
    /// Files lists of selectors. An empty list is for no process.
    pub fn new<'a>(lists: impl Iterator<Item = &'a [Selector]> + Clone) -> Self {
        let mut common: HashMap<&Selector, usize> = HashMap::new();
        for selector in lists.clone().flatten() {
            *common.entry(selector).or_default() += 1;
        }
        let mut index = Self::default();
        for (position, list) in lists.enumerate() {
            let key = list
                .iter()
                .min_by_key(|selector| (common.get(selector).copied(), cost(selector)));
            if let Some(key) = key {
                index.file(key, position);
            }
        }
        index
    }

    fn file(&mut self, key: &Selector, position: usize) {
        let Selector::Unix(unix) = key;
        self.files_paths |= matches!(unix, UnixSelector::Path(_));
        self.files_digests |= matches!(unix, UnixSelector::Sha256(_));
        let is_name = matches!(unix, UnixSelector::User(_) | UnixSelector::Group(_));
        if is_name && !self.filed.contains_key(key) {
            self.names.push(key.clone());
        }
        self.filed.entry(key.clone()).or_default().push(position);
    }

    /// Whether some list can be found by the path of a program alone.
    pub(super) fn files_paths(&self) -> bool {
        self.files_paths
    }

    /// Whether some list can be found by the digest of a program alone.
    pub(super) fn files_digests(&self) -> bool {
        self.files_digests
    }

    /// The lists that are filed under one of these selectors, in their order.
    pub(super) fn under<'a>(&self, proven: impl IntoIterator<Item = &'a Selector>) -> Vec<usize> {
        let found: HashSet<usize> = proven
            .into_iter()
            .filter_map(|selector| self.filed.get(selector))
            .flatten()
            .copied()
            .collect();
        let mut found: Vec<usize> = found.into_iter().collect();
        found.sort_unstable();
        found
    }

    /// The names that lists are filed under and that stand for this user or one of these groups. A
    /// name that the user database has changed is noticed some seconds later. Blocks.
    pub(super) fn names_of(&self, uid: u32, groups: &[u32]) -> Vec<Selector> {
        if self.names.is_empty() {
            return Vec::new();
        }
        let Resolved {
            users,
            groups: of_groups,
            ..
        } = self.resolved();
        let mut names = users.get(&uid).cloned().unwrap_or_default();
        let named = groups.iter().filter_map(|group| of_groups.get(group));
        names.extend(named.flatten().cloned());
        names
    }

    fn resolved(&self) -> Resolved {
        // Locked while the user database is asked: the others wait for the same answer.
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = resolved.as_ref();
        if let Some(fresh) = fresh.filter(|resolved| Instant::now() < resolved.until) {
            return fresh.clone();
        }
        let now = resolve(&self.names);
        *resolved = Some(now.clone());
        now
    }
}

fn resolve(names: &[Selector]) -> Resolved {
    let start = Instant::now();
    let mut complete = true;
    let mut users: HashMap<u32, Vec<Selector>> = HashMap::new();
    let mut groups: HashMap<u32, Vec<Selector>> = HashMap::new();
    for selector in names {
        let Selector::Unix(unix) = selector;
        let (found, of) = match unix {
            UnixSelector::User(name) => (user_id(name), &mut users),
            UnixSelector::Group(name) => (group_id(name), &mut groups),
            _ => continue,
        };
        // A name without an answer is no process's now.
        complete &= found.is_ok();
        if let Ok(Some(number)) = found {
            of.entry(number).or_default().push(selector.clone());
        }
        if start.elapsed() > ASKING {
            complete = false;
            break;
        }
    }
    let now = Instant::now();
    let took = now - start;
    let fresh = match complete {
        true => (took * TIMES_ASKING).clamp(FRESH, STALE),
        false => FRESH,
    };
    Resolved {
        until: now + fresh,
        users: users.into(),
        groups: groups.into(),
    }
}

/// Of two selectors that are as rare as each other, the one that is easier to tell.
fn cost(selector: &Selector) -> u8 {
    let Selector::Unix(unix) = selector;
    match unix {
        UnixSelector::Uid(_) => 0,
        UnixSelector::Gid(_) => 1,
        UnixSelector::User(_) => 2,
        UnixSelector::Group(_) => 3,
        UnixSelector::Path(_) => 4,
        UnixSelector::Sha256(_) => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selectors(texts: &[&str]) -> Vec<Selector> {
        let texts = texts.iter();
        texts.map(|text| Selector::parse(text).unwrap()).collect()
    }

    fn index(lists: &[&[&str]]) -> SelectorIndex {
        let lists: Vec<Vec<Selector>> = lists.iter().map(|list| selectors(list)).collect();
        SelectorIndex::new(lists.iter().map(Vec::as_slice))
    }

    #[test]
    fn a_list_is_filed_under_what_few_others_have() {
        let index = index(&[
            &["unix:uid:1", "unix:path:/a"],
            &["unix:uid:1", "unix:path:/b"],
            &["unix:uid:2"],
            &[],
        ]);
        assert!(index.files_paths() && !index.files_digests());
        assert_eq!(index.under(&selectors(&["unix:uid:1"])), [0_usize; 0]);
        assert_eq!(
            index.under(&selectors(&["unix:uid:1", "unix:path:/b"])),
            [1]
        );
        let all = ["unix:uid:2", "unix:path:/b", "unix:path:/a"];
        assert_eq!(index.under(&selectors(&all)), [0, 1, 2]);
    }

    #[test]
    fn names_stand_for_their_numbers() {
        let index = index(&[
            &["unix:user:root"],
            &["unix:group:root"],
            &["unix:user:no-such-user-here"],
            &["unix:uid:0"],
        ]);
        assert_eq!(index.names_of(0, &[]), selectors(&["unix:user:root"]));
        assert_eq!(index.names_of(1, &[0]), selectors(&["unix:group:root"]));
        assert_eq!(index.names_of(1, &[1]), []);
    }
}
