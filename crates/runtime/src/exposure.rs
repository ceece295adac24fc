//! Who else may change a file that a site runs by: permissions are checked along its whole path,
//! for who may write in a folder may put another file in the place of one in it.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "on a thread that may wait")
)]

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::files;

const WRITABLE_BY_ALL: u32 = 0o002;
/// In such a folder (`/tmp`) only a file's owner may replace it.
const STICKY: u32 = 0o1000;

/// A sentence for each place at which every user of the machine may change or replace what is at
/// `path`, or make it, if it is not there yet. Says nothing of a file that gives no answer: reading
/// it will fail, and name the reason.
pub fn by_everyone(path: &Path) -> Vec<String> {
    let owned = path.to_owned();
    files::run(path, move || Ok(look(&owned))).unwrap_or_default()
}

fn look(path: &Path) -> Vec<String> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    // The name as it was given, and where links lead.
    let mut paths = vec![whole.clone()];
    paths.extend(whole.canonicalize());
    let mut places = BTreeSet::new();
    for path in paths {
        let folders = path.ancestors().skip(1).filter(|folder| is_open(folder));
        places.extend(folders.map(Path::to_owned));
    }
    let itself = mode(&whole).filter(|mode| mode & WRITABLE_BY_ALL != 0);
    let itself = itself.map(|mode| {
        let path = path.display();
        format!("every user may write {path} (mode {mode:04o}): chmod o-w {path}")
    });
    let replaced = places.into_iter().map(|folder: PathBuf| {
        let (path, folder) = (path.display(), folder.display());
        format!("every user may replace {path}, for all may write in {folder}: chmod o-w {folder}")
    });
    itself.into_iter().chain(replaced).collect()
}

fn is_open(folder: &Path) -> bool {
    mode(folder).is_some_and(|mode| mode & WRITABLE_BY_ALL != 0 && mode & STICKY == 0)
}

fn mode(path: &Path) -> Option<u32> {
    fs::metadata(path).ok().map(|found| found.mode() & 0o7777)
}

/// Sees to it that no crash writes the memory of this process, which holds keys, to a file, and
/// that no other process of its user reads it.
///
/// # Errors
/// When the system refuses.
pub fn keep_memory_private() -> io::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn every_place_at_which_all_may_write_is_named() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("etc");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("site.yaml");
        fs::write(&file, "").unwrap();
        set(&file, 0o644);
        set(&folder, 0o755);
        assert_eq!(by_everyone(&file), Vec::<String>::new());
        set(&file, 0o666);
        let told = by_everyone(&file);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("(mode 0666)"), "{told:?}");
        set(&file, 0o644);
        for parent in [&folder, &top.path().to_owned()] {
            let before = mode(parent).unwrap();
            set(parent, 0o777);
            let told = by_everyone(&file);
            assert_eq!(told.len(), 1, "{told:?}");
            let help = format!("chmod o-w {}", parent.display());
            assert!(told[0].ends_with(&help), "{told:?}");
            assert_eq!(by_everyone(&folder.join("not-there-yet")).len(), 1);
            set(parent, 0o1777);
            assert_eq!(by_everyone(&file), Vec::<String>::new(), "sticky");
            set(parent, before);
        }
    }

    #[test]
    fn a_link_and_what_it_leads_to_are_both_looked_at() {
        let (open, closed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        set(open.path(), 0o777);
        for (of_link, of_file) in [(&open, &closed), (&closed, &open)] {
            let file = of_file.path().join("file");
            let link = of_link.path().join("link");
            fs::write(&file, "").unwrap();
            symlink(&file, &link).unwrap();
            let told = by_everyone(&link);
            assert_eq!(told.len(), 1, "{told:?}");
            let help = format!("chmod o-w {}", open.path().display());
            assert!(told[0].ends_with(&help), "{told:?}");
        }
    }
}
