//! Comparing the owner of a connection with a workload's selectors.

use std::{
    collections::BTreeMap,
    io,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use renkei_site::{Selector, UnixSelector};

use renkei_runtime::process::{self, Digests, IdKind, indistinct};

use super::{Caller, OwnerError, SocketOwner, holder, socket_owner};

/// How long the user database's word on a name is taken without asking again.
const FRESH: Duration = Duration::from_secs(5);

/// Users that selectors name, and when the user database was asked.
static UIDS: Mutex<BTreeMap<String, (u32, Instant)>> = Mutex::new(BTreeMap::new());

/// Why a local caller is not the workload that a listener is for.
#[derive(Debug, thiserror::Error)]
pub enum CallerError {
    /// No process, or none on this machine.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// The user that a selector names cannot be looked up.
    #[error("{selector} cannot be looked up: {reason}")]
    NoAnswer {
        /// The selector.
        selector: String,
        /// What the user database says, if anything.
        reason: String,
    },
    /// A process of another user.
    #[error("the caller is a process of user {found}, and the listener is for {selector}")]
    OtherUser {
        /// The user of the caller.
        found: String,
        /// The selector that does not hold.
        selector: String,
    },
    /// The user's number means other users as well.
    #[error("the caller's user cannot be known: {reason}; so it does not match {selector}")]
    Indistinct {
        /// The selector that would hold.
        selector: String,
        /// Which users the number means.
        reason: String,
    },
    /// The user fits, something else about the process does not.
    #[error("the calling process of user {user} does not match: {reason}")]
    OtherProcess {
        /// The user.
        user: String,
        /// The selector and what was found in its place.
        reason: String,
    },
}

impl CallerError {
    /// A short, stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Owner(OwnerError::Foreign(_)) => "not_local",
            Self::Owner(OwnerError::Closed(_)) => "caller_closed",
            Self::Owner(OwnerError::Tables(_)) | Self::NoAnswer { .. } => "not_attested",
            Self::OtherUser { .. } => "other_user",
            Self::Indistinct { .. } => "indistinct_user",
            Self::OtherProcess { .. } => "other_process",
        }
    }
}

impl Caller {
    /// Whether the process at the other end of an accepted connection satisfies every selector, if
    /// that connection is still open afterwards. May block on the user database and `/proc`.
    pub fn attest(
        &self,
        selectors: &[Selector],
        digests: &Digests,
    ) -> Result<SocketOwner, CallerError> {
        let owner = self.owner()?;
        let needs_process = check_user(selectors, &owner)?;
        if !needs_process {
            return Ok(owner);
        }
        if owner.inode == 0 {
            return Err(OwnerError::Closed(self.peer).into());
        }
        let examined = holder::check(selectors, &owner, digests);
        // The inode may have gone to another socket, and the processes looked at be those of that.
        if socket_owner(self.peer, self.local)? != owner {
            return Err(OwnerError::Closed(self.peer).into());
        }
        examined.map_err(|reason| CallerError::OtherProcess {
            user: user_name(owner.uid),
            reason,
        })?;
        Ok(owner)
    }

    /// Whether the process at the other end certainly satisfies every selector, as far as that can
    /// be told without blocking: by its user alone. If not, [`Caller::attest`] decides. This too
    /// holds only if the connection is still open afterwards.
    pub fn is_plainly(&self, selectors: &[Selector]) -> bool {
        let uids: Option<Vec<u32>> = selectors.iter().map(known_uid).collect();
        let Some(uids) = uids.filter(|uids| !uids.is_empty()) else {
            return false;
        };
        self.seen
            .is_some_and(|owner| uids.iter().all(|uid| *uid == owner.uid))
    }
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

/// Whether a socket's user satisfies every selector that asks about users. `true` if other selectors
/// ask about its processes; a workload without any selector is nobody's.
fn check_user(selectors: &[Selector], owner: &SocketOwner) -> Result<bool, CallerError> {
    let other_user = |selector: &Selector| CallerError::OtherUser {
        found: user_name(owner.uid),
        selector: selector.to_string(),
    };
    if selectors.is_empty() {
        return Err(CallerError::OtherProcess {
            user: user_name(owner.uid),
            reason: "the workload has no selectors".to_owned(),
        });
    }
    let mut needs_process = false;
    for selector in selectors {
        let Selector::Unix(unix) = selector;
        match unix {
            UnixSelector::Uid(uid) if *uid == owner.uid => {}
            UnixSelector::Uid(_) => return Err(other_user(selector)),
            UnixSelector::User(name) => match uid_of(name) {
                Ok(uid) if uid == Some(owner.uid) => {}
                Ok(_) => return Err(other_user(selector)),
                Err(error) => {
                    let (selector, reason) = (selector.to_string(), error.to_string());
                    return Err(CallerError::NoAnswer { selector, reason });
                }
            },
            _ => {
                needs_process = true;
                continue;
            }
        }
        if let Some(reason) = indistinct(IdKind::User, owner.uid) {
            let selector = selector.to_string();
            return Err(CallerError::Indistinct { selector, reason });
        }
    }
    Ok(needs_process)
}

fn uid_of(name: &str) -> io::Result<Option<u32>> {
    let found = process::user_id(name)?;
    if let Some(uid) = found {
        let mut known = UIDS.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), (uid, Instant::now()));
    }
    Ok(found)
}

fn user_name(uid: u32) -> String {
    let name = process::user_name(uid).ok().flatten();
    name.unwrap_or_else(|| uid.to_string())
}
