//! The way that a path leads, and who else may decide where that is.

use std::{
    collections::{BTreeSet, VecDeque},
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
};

use rustix::process::geteuid;

pub(super) const WRITABLE_BY_ALL: u32 = 0o002;
/// In such a folder (`/tmp`) only a file's owner may replace it.
const STICKY: u32 = 0o1000;
/// How many links a path may lead through (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Where every user may decide where a path leads.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// A folder in which all may replace what is there.
    Open(PathBuf),
    /// A name that is not taken, in a folder in which all may make it.
    Free(PathBuf),
    /// What another user than this process's and root, a user of this ID, has made in a folder in
    /// which all may make it.
    Foreign(PathBuf, u32),
}

/// The way that a path leads.
#[derive(Debug)]
pub(super) struct Walk {
    /// Where every user may decide where that is.
    pub(super) places: BTreeSet<Place>,
    /// Where it leads, by a path without links; nothing if that is not there.
    pub(super) end: Option<PathBuf>,
}

/// Follows an absolute path as the kernel does, link by link.
pub(super) fn walk(path: &Path) -> Walk {
    let mut places = BTreeSet::new();
    let mut is_there = true;
    let mut names: VecDeque<OsString> = names(path).collect();
    let mut folder = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if name == ".." {
            folder.pop();
            continue;
        }
        let here = folder.join(&name);
        let found = fs::symlink_metadata(&here);
        let open = mode(&folder).filter(|mode| mode & WRITABLE_BY_ALL != 0);
        match open {
            Some(mode) if mode & STICKY == 0 => {
                places.insert(Place::Open(folder.clone()));
            }
            Some(_) if found.as_ref().is_err_and(is_missing) => {
                places.insert(Place::Free(here.clone()));
            }
            Some(_) => {
                let owner = found.as_ref().ok().map(MetadataExt::uid);
                if let Some(owner) = owner.filter(|owner| !is_trusted(*owner)) {
                    places.insert(Place::Foreign(here.clone(), owner));
                }
            }
            None => {}
        }
        match found {
            Ok(found) if found.is_symlink() => {
                links += 1;
                let Some(target) = fs::read_link(&here).ok().filter(|_| links <= MOST_LINKS) else {
                    is_there = false;
                    break;
                };
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                self::names(&target)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .rev()
                    .for_each(|name| names.push_front(name));
            }
            Ok(_) => folder = here,
            // What is below it does not exist either.
            Err(_) => {
                is_there = false;
                break;
            }
        }
    }
    let end = is_there.then_some(folder);
    Walk { places, end }
}

fn is_trusted(owner: u32) -> bool {
    owner == 0 || owner == geteuid().as_raw()
}

fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

pub(super) fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.mode() & 0o7777)
}
