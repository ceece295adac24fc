//! Which users and groups the kernel can tell apart for this process (user_namespaces(7)).
//!
//! In a user namespace the kernel shows every ID that the namespace does not map as one number
//! (`/proc/sys/kernel/overflowuid`, 65534), also the machine's root. Whether a process has that
//! number, or one without a mapping, is unknown then, so no selector may match it.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "the kernel answers at once")
)]

use std::{fs, io, path::Path, sync::OnceLock};

use renkei_site::{Selector, UnixSelector};

use super::{group_id, user_id};

/// The kernel's number for what is not mapped, unless it says otherwise.
const OVERFLOW: u32 = 65_534;
/// The last number is no ID.
const IDS: u64 = u32::MAX as u64;

/// What an ID is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdKind {
    /// The ID of a user, as in `unix:uid`.
    User,
    /// The ID of a group, as in `unix:gid`.
    Group,
}

impl IdKind {
    fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }

    fn map(self) -> &'static str {
        match self {
            Self::User => "/proc/self/uid_map",
            Self::Group => "/proc/self/gid_map",
        }
    }

    /// The number of every ID that is not mapped.
    fn overflow(self) -> u32 {
        let file = match self {
            Self::User => "/proc/sys/kernel/overflowuid",
            Self::Group => "/proc/sys/kernel/overflowgid",
        };
        let text = fs::read_to_string(file).unwrap_or_default();
        text.trim().parse().unwrap_or(OVERFLOW)
    }
}

/// Why no process is known by this ID, if it may stand for others as well.
pub fn indistinct(kind: IdKind, id: u32) -> Option<String> {
    if maps_all(kind) || id != kind.overflow() {
        return None;
    }
    Some(format!(
        "{} ID {id} is shown for every ID that this user namespace does not map, root included",
        kind.word()
    ))
}

/// Why this selector matches no process here, as far as the user namespace is the reason.
pub fn never_matches(selector: &Selector) -> Option<String> {
    let Selector::Unix(unix) = selector;
    let kind = match unix {
        UnixSelector::Uid(_) | UnixSelector::User(_) => IdKind::User,
        UnixSelector::Gid(_) | UnixSelector::Group(_) => IdKind::Group,
        UnixSelector::Path(_) | UnixSelector::Sha256(_) => return None,
    };
    if maps_all(kind) {
        return None;
    }
    let found = match unix {
        UnixSelector::Uid(id) | UnixSelector::Gid(id) => Ok(Some(*id)),
        UnixSelector::User(name) => user_id(name),
        UnixSelector::Group(name) => group_id(name),
        UnixSelector::Path(_) | UnixSelector::Sha256(_) => Ok(None),
    };
    let id = match found {
        Ok(id) => id?,
        Err(error) => return Some(format!("the user database: {error}")),
    };
    indistinct(kind, id).or_else(|| {
        let ranges = read_ranges(kind).ok()?;
        let id = u64::from(id);
        let mapped = ranges.iter().any(|(from, to)| (*from..*to).contains(&id));
        let word = kind.word();
        (!mapped).then(|| format!("{word} ID {id} is not mapped in this user namespace"))
    })
}

/// Whether every ID is mapped, as it is outside of user namespaces; what cannot be read is not.
fn maps_all(kind: IdKind) -> bool {
    // A map is written once: one that is whole stays so.
    static USERS: OnceLock<()> = OnceLock::new();
    static GROUPS: OnceLock<()> = OnceLock::new();
    let known = match kind {
        IdKind::User => &USERS,
        IdKind::Group => &GROUPS,
    };
    if known.get().is_some() {
        return true;
    }
    let whole = match read_ranges(kind) {
        Ok(ranges) => is_whole(ranges),
        // A kernel without user namespaces.
        Err(error) => {
            error.kind() == io::ErrorKind::NotFound && Path::new("/proc/self/status").exists()
        }
    };
    if whole {
        known.get_or_init(|| ());
    }
    whole
}

fn read_ranges(kind: IdKind) -> io::Result<Vec<(u64, u64)>> {
    Ok(ranges(&fs::read_to_string(kind.map())?))
}

/// The IDs within the namespace that are mapped: each line has the first of them, the first
/// outside, and how many there are.
fn ranges(map: &str) -> Vec<(u64, u64)> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u64>);
        let (from, _, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let from = from.ok()?;
        Some((from, from.checked_add(count.ok()?)?))
    };
    map.lines().filter_map(range).collect()
}

fn is_whole(mut ranges: Vec<(u64, u64)>) -> bool {
    ranges.sort_unstable();
    let end = ranges.into_iter().fold(0, |end, (from, to)| match from {
        from if from <= end => end.max(to),
        _ => end,
    });
    end >= IDS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_map_of_every_id_is_whole() {
        for map in [
            "         0          0 4294967295\n",
            "0 0 65534\n65534 70000 4294901761\n",
            "65536 65536 4294901759\n0 100000 65536\n",
        ] {
            assert!(is_whole(ranges(map)), "{map}");
        }
        for map in [
            "",
            "0 1000 1\n",
            "0 100000 65536\n",
            "1 1 4294967294\n",
            "0 0 65534\n65535 65535 4294901760\n",
            "nonsense\n",
            "0 0 99999999999999999999\n",
        ] {
            assert!(!is_whole(ranges(map)), "{map}");
        }
    }
}
