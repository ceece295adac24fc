//! What the kernel says about a process: its user, its groups, and the program that it runs.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use renkei_site::{Selector, UnixSelector};

use super::{Evidence, SelectorIndex, WorkloadAttestor};
use crate::process::{
    Asked, AttestError, Digests, IdKind, Process, ProcessFacts, group_id, indistinct, user_id,
};

/// How long the user database's word on a name is taken without asking again.
const FRESH: Duration = Duration::from_secs(5);

/// Users that selectors name, and when the user database was asked.
static UIDS: Mutex<BTreeMap<String, (u32, Instant)>> = Mutex::new(BTreeMap::new());

/// Answers for `unix:` selectors. User and group names are resolved through the system's name
/// service at every question, so that a change there takes effect.
#[derive(Debug, Default)]
pub struct UnixAttestor {
    digests: Digests,
}

impl WorkloadAttestor for UnixAttestor {
    fn answers(&self, selector: &Selector) -> bool {
        let Selector::Unix(_) = selector;
        true
    }

    fn examine(
        &self,
        process: &Process,
        asked: &[&Selector],
    ) -> Result<Box<dyn Evidence>, AttestError> {
        let facts = process.facts(&self.digests, &asked_by(asked.iter().copied()))?;
        Ok(Box::new(facts))
    }

    fn selectors(
        &self,
        process: &Process,
        index: &SelectorIndex,
    ) -> Result<Vec<Selector>, AttestError> {
        let asked = Asked {
            sha256: index.files_digests(),
            ..Asked::default()
        };
        let facts = process.facts(&self.digests, &asked)?;
        let mut groups = vec![facts.gid];
        groups.extend(&facts.groups);
        let mut proven = vec![UnixSelector::Uid(facts.uid)];
        proven.extend(groups.iter().copied().map(UnixSelector::Gid));
        // The file itself is looked at only where its path is one that is asked for.
        let path = index.files_paths().then(|| process.program());
        proven.extend(path.and_then(Result::ok).map(UnixSelector::Path));
        let digest = facts.executable.and_then(|executable| executable.sha256);
        proven.extend(digest.map(UnixSelector::Sha256));
        let mut proven: Vec<Selector> = proven.into_iter().map(Selector::Unix).collect();
        proven.extend(index.names_of(facts.uid, &groups));
        Ok(proven)
    }
}

impl Evidence for ProcessFacts {
    fn holds(&self, selector: &Selector) -> Result<(), String> {
        holds(selector, self)
    }
}

/// What selectors ask about the executable.
pub(crate) fn asked_by<'a>(selectors: impl IntoIterator<Item = &'a Selector>) -> Asked {
    let mut asked = Asked::default();
    for Selector::Unix(selector) in selectors {
        if let UnixSelector::Path(path) = selector {
            asked.path = true;
            asked.paths.push(path.clone());
        }
        asked.sha256 |= matches!(selector, UnixSelector::Sha256(_));
    }
    asked
}

/// What follows from the user alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByUser {
    /// The process has all that the selectors ask for.
    Holds,
    /// What asks about the user holds, and other selectors ask about the process.
    AskProcess,
}

/// Why the user alone excludes that the selectors hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserFault {
    /// A workload without selectors matches no process.
    #[error("the workload has no selectors")]
    NoSelectors,
    /// The user that a selector names cannot be looked up.
    #[error("{selector} cannot be looked up: {reason}")]
    NoAnswer {
        /// The selector as the site file has it.
        selector: String,
        /// What the user database says, if anything.
        reason: String,
    },
    /// The process is another user's.
    #[error("{0} does not hold")]
    OtherUser(String),
    /// The user's number means other users as well.
    #[error("{selector} cannot be known to hold: {reason}")]
    Indistinct {
        /// The selector that would hold.
        selector: String,
        /// What the number means.
        reason: String,
    },
}

/// What selectors say of a process of which only the user is known, as of the owner of a socket.
/// May block on the user database.
pub fn by_user(selectors: &[Selector], uid: u32) -> Result<ByUser, UserFault> {
    if selectors.is_empty() {
        return Err(UserFault::NoSelectors);
    }
    let mut answer = ByUser::Holds;
    for selector in selectors {
        let Selector::Unix(unix) = selector;
        let wanted = match unix {
            UnixSelector::Uid(uid) => Some(*uid),
            UnixSelector::User(name) => uid_of(name).map_err(|error| UserFault::NoAnswer {
                selector: selector.to_string(),
                reason: error.to_string(),
            })?,
            _ => {
                answer = ByUser::AskProcess;
                continue;
            }
        };
        if wanted != Some(uid) {
            return Err(UserFault::OtherUser(selector.to_string()));
        }
        if let Some(reason) = indistinct(IdKind::User, uid) {
            let selector = selector.to_string();
            return Err(UserFault::Indistinct { selector, reason });
        }
    }
    Ok(answer)
}

/// Whether every selector certainly holds for a process of this user, as far as that is known
/// without blocking. If not, [`by_user`] decides.
pub fn holds_at_once(selectors: &[Selector], uid: u32) -> bool {
    let uids: Option<Vec<u32>> = selectors.iter().map(known_uid).collect();
    uids.is_some_and(|uids| !uids.is_empty() && uids.iter().all(|wanted| *wanted == uid))
}

/// The user that a selector asks for, if it asks for nothing else and no look-up is needed.
fn known_uid(selector: &Selector) -> Option<u32> {
    let Selector::Unix(unix) = selector;
    let uid = match unix {
        UnixSelector::Uid(uid) => *uid,
        UnixSelector::User(name) => {
            let known = UIDS.lock().unwrap_or_else(PoisonError::into_inner);
            let (uid, asked) = known.get(name)?;
            (asked.elapsed() < FRESH).then_some(*uid)?
        }
        _ => return None,
    };
    indistinct(IdKind::User, uid).is_none().then_some(uid)
}

fn uid_of(name: &str) -> io::Result<Option<u32>> {
    let found = user_id(name)?;
    if let Some(uid) = found {
        let mut known = UIDS.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), (uid, Instant::now()));
    }
    Ok(found)
}

pub(crate) fn holds(selector: &Selector, facts: &ProcessFacts) -> Result<(), String> {
    let Selector::Unix(selector) = selector;
    match selector {
        UnixSelector::Uid(uid) => is_user(*uid, facts),
        UnixSelector::User(name) => user_holds(name, facts),
        UnixSelector::Gid(gid) => in_group(*gid, facts),
        UnixSelector::Group(name) => match group_id(name) {
            Ok(Some(gid)) => in_group(gid, facts),
            Ok(None) => Err(format!("there is no group {name} on this node")),
            Err(error) => Err(format!("group {name} cannot be looked up: {error}")),
        },
        UnixSelector::Path(path) => {
            let found = facts.executable.as_ref()?.path.as_ref()?;
            same(&path.display(), &found.display(), "the process runs")
        }
        UnixSelector::Sha256(digest) => {
            let found = facts.executable.as_ref()?.sha256.as_ref()?;
            same(
                &hex::encode(digest),
                &hex::encode(found),
                "the program's SHA-256 is",
            )
        }
    }
}

fn user_holds(name: &str, facts: &ProcessFacts) -> Result<(), String> {
    match user_id(name) {
        Ok(Some(uid)) => is_user(uid, facts),
        Ok(None) => Err(format!("there is no user {name} on this node")),
        Err(error) => Err(format!("user {name} cannot be looked up: {error}")),
    }
}

fn is_user(uid: u32, facts: &ProcessFacts) -> Result<(), String> {
    same(&uid, &facts.uid, "the process has user ID")?;
    indistinct(IdKind::User, uid).map_or(Ok(()), Err)
}

fn in_group(gid: u32, facts: &ProcessFacts) -> Result<(), String> {
    if let Some(reason) = indistinct(IdKind::Group, gid) {
        return Err(reason);
    }
    if facts.gid == gid || facts.groups.contains(&gid) {
        return Ok(());
    }
    Err(format!("the process is not in group {gid}"))
}

fn same<T: fmt::Display>(wanted: &T, found: &T, what: &str) -> Result<(), String> {
    let (wanted, found) = (wanted.to_string(), found.to_string());
    if wanted == found {
        Ok(())
    } else {
        Err(format!("{what} {found}, not {wanted}"))
    }
}
