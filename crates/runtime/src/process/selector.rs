//! Comparing facts with the selectors of a workload.

use std::{fmt, path::PathBuf};

use renkei_site::{Selector, UnixSelector};

use super::{IdKind, ProcessFacts, group_id, indistinct, user_id};

/// The first selector that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A workload without selectors matches nobody.
    #[error("the workload has no selectors")]
    NoSelectors,
    /// This one does not hold.
    #[error("{selector} does not hold: {reason}")]
    Selector {
        /// As the site file has it.
        selector: String,
        /// What was found instead.
        reason: String,
    },
}

/// What selectors ask about the executable.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// A selector asks for the path of the program.
    pub path: bool,
    /// The paths that can match; if there are none, any.
    pub paths: Vec<PathBuf>,
    /// A selector asks for the SHA-256 of the program.
    pub sha256: bool,
}

impl Asked {
    /// All there is.
    pub const ALL: Self = Self {
        path: true,
        paths: Vec::new(),
        sha256: true,
    };

    /// What these selectors ask.
    pub fn by<'a>(selectors: impl IntoIterator<Item = &'a Selector>) -> Self {
        let mut asked = Self::default();
        for Selector::Unix(selector) in selectors {
            if let UnixSelector::Path(path) = selector {
                asked.path = true;
                asked.paths.push(path.clone());
            }
            asked.sha256 |= matches!(selector, UnixSelector::Sha256(_));
        }
        asked
    }
}

/// All selectors must hold. User and group names are resolved through the system's name service
/// at every call, so that a change there takes effect.
pub fn matches(selectors: &[Selector], facts: &ProcessFacts) -> Result<(), Mismatch> {
    if selectors.is_empty() {
        return Err(Mismatch::NoSelectors);
    }
    selectors.iter().try_for_each(|selector| {
        holds(selector, facts).map_err(|reason| Mismatch::Selector {
            selector: selector.to_string(),
            reason,
        })
    })
}

fn holds(selector: &Selector, facts: &ProcessFacts) -> Result<(), String> {
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
