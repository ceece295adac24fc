//! Who else may change a file that a site runs by, or use a socket that it uses: permissions are
//! checked along the whole path, for who may write in a folder may put another file in the place of
//! one in it.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "on a thread that may wait")
)]

mod socket;
mod walk;

use std::{
    collections::VecDeque,
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use crate::files::{self, Budget};

pub use socket::{SocketFault, judge_socket};

use walk::{Place, WRITABLE_BY_ALL, mode, walk};

/// How deep a folder of state is looked through, and at how many entries.
const DEPTH: usize = 3;
const MOST_ENTRIES: usize = 1_000;
/// How long one file may take, and all together.
const LIMIT: Duration = Duration::from_secs(1);
const TOTAL: Duration = Duration::from_secs(5);

/// A sentence for each place at which every user of the machine may change or replace what is at
/// one of `paths`, or in the folder `state`, or make it, if it is not there yet. Says nothing of a
/// file that gives no answer: reading it will fail, and name the reason.
pub fn by_everyone<'a>(paths: impl IntoIterator<Item = &'a Path>, state: &Path) -> Vec<String> {
    let start = Instant::now();
    let mut sentences = Vec::new();
    let mut add = |path: &Path, look: fn(&Path) -> Vec<String>| {
        let limit = LIMIT.min(TOTAL.saturating_sub(start.elapsed()));
        if limit.is_zero() {
            return;
        }
        for sentence in looked(limit, path, look).unwrap_or_default() {
            if !sentences.contains(&sentence) {
                sentences.push(sentence);
            }
        }
    };
    paths.into_iter().for_each(|path| add(path, look));
    add(state, look);
    add(state, look_into);
    sentences
}

/// A file that is only slow must not be refused to those who use it: hence the budget.
fn looked(
    limit: Duration,
    path: &Path,
    look: impl FnOnce(&Path) -> Vec<String> + Send + 'static,
) -> Option<Vec<String>> {
    let owned = path.to_owned();
    files::run_within(limit, Budget::Warnings, path, move || Ok(look(&owned))).ok()
}

fn look(path: &Path) -> Vec<String> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let itself = writable(&whole);
    let path = whole.display();
    let replaced = walk(&whole).places.into_iter().filter_map(|place| match place {
        Place::Open(folder) => {
            let folder = folder.display();
            Some(format!(
                "every user may replace {path}, for all may write in {folder}: chmod o-w {folder}"
            ))
        }
        Place::Free(missing) => Some(format!(
            "every user may make {path} first, for {} is not there, and its folder is for all: \
             choose another folder, or make it",
            missing.display()
        )),
        // Its owner is one user.
        Place::Foreign(..) => None,
    });
    itself.into_iter().chain(replaced).collect()
}

/// What was made in a folder.
fn look_into(folder: &Path) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut folders = VecDeque::from([(folder.to_owned(), 0)]);
    let mut left = MOST_ENTRIES;
    while let Some((folder, depth)) = folders.pop_front() {
        let Ok(entries) = fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten().take(left) {
            left -= 1;
            // A link has no mode of its own, and who may connect to a socket is another question.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth + 1 < DEPTH => {
                    folders.push_back((entry.path(), depth + 1));
                }
                Ok(kind) if kind.is_dir() || kind.is_file() => {}
                _ => continue,
            }
            sentences.extend(writable(&entry.path()));
        }
    }
    sentences
}

fn writable(path: &Path) -> Option<String> {
    let mode = mode(path).filter(|mode| mode & WRITABLE_BY_ALL != 0)?;
    let path = path.display();
    Some(format!(
        "every user may write {path} (mode {mode:04o}): chmod o-w {path}"
    ))
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

    /// Of one path, with a state folder that is not there.
    fn warnings(path: &Path) -> Vec<String> {
        by_everyone([path], Path::new("/nowhere/state"))
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
        assert_eq!(warnings(&file), Vec::<String>::new());
        set(&file, 0o666);
        let said = warnings(&file);
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("(mode 0666)"), "{said:?}");
        set(&file, 0o644);
        for parent in [&folder, &top.path().to_owned()] {
            let before = mode(parent).unwrap();
            set(parent, 0o777);
            let said = warnings(&file);
            assert_eq!(said.len(), 1, "{said:?}");
            let help = format!("chmod o-w {}", parent.display());
            assert!(said[0].ends_with(&help), "{said:?}");
            assert_eq!(warnings(&folder.join("not-there-yet")).len(), 1);
            set(parent, 0o1777);
            assert_eq!(warnings(&file), Vec::<String>::new(), "sticky");
            set(parent, before);
        }
    }

    #[test]
    fn a_link_what_it_leads_to_and_links_on_the_way_are_all_looked_at() {
        let (open, closed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        set(open.path(), 0o777);
        let help = format!("chmod o-w {}", open.path().display());
        let warned = |path: &Path| {
            let said = warnings(path);
            assert_eq!(said.len(), 1, "{said:?}");
            assert!(said[0].ends_with(&help), "{said:?}");
        };
        for (of_link, of_file) in [(&open, &closed), (&closed, &open)] {
            let file = of_file.path().join("file");
            let link = of_link.path().join("link");
            fs::write(&file, "").unwrap();
            symlink(&file, &link).unwrap();
            warned(&link);
        }
        // The link is a folder on the way: from a closed one into a closed one, through the open.
        let (inner, outer) = (closed.path().join("inner"), closed.path().join("outer"));
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("policy.rego"), "").unwrap();
        symlink(&inner, open.path().join("middle")).unwrap();
        symlink(open.path().join("middle"), &outer).unwrap();
        warned(&outer.join("policy.rego"));
        warned(&closed.path().join("outer/../inner/policy.rego"));
        // A circle ends.
        symlink(closed.path().join("b"), closed.path().join("a")).unwrap();
        symlink(closed.path().join("a"), closed.path().join("b")).unwrap();
        assert_eq!(warnings(&closed.path().join("a")), Vec::<String>::new());
    }

    #[test]
    fn a_name_that_is_not_taken_in_a_folder_for_all_is_named() {
        let top = tempfile::tempdir().unwrap();
        set(top.path(), 0o1777);
        let missing = top.path().join("bundles");
        let link = tempfile::tempdir().unwrap();
        symlink(&missing, link.path().join("link")).unwrap();
        for path in [
            missing.clone(),
            missing.join("osaka.json"),
            link.path().join("link/osaka.json"),
        ] {
            let said = warnings(&path);
            assert_eq!(said.len(), 1, "{said:?}");
            let what = format!("{} is not there", missing.display());
            assert!(said[0].contains(&what), "{said:?}");
        }
        fs::create_dir(&missing).unwrap();
        assert_eq!(warnings(&missing.join("osaka.json")), Vec::<String>::new());
    }

    #[test]
    fn what_is_in_the_state_folder_is_looked_at_but_for_sockets() {
        let state = tempfile::tempdir().unwrap();
        let socket = state.path().join("control.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        set(&socket, 0o666);
        let keys = state.path().join("keys");
        fs::create_dir(&keys).unwrap();
        assert_eq!(by_everyone([], state.path()), Vec::<String>::new());
        for file in [state.path().join("renkei.db"), keys.join("ca.pem")] {
            fs::write(&file, "").unwrap();
            set(&file, 0o666);
            let said = by_everyone([], state.path());
            assert_eq!(said.len(), 1, "{said:?}");
            let what = format!("every user may write {} (mode 0666)", file.display());
            assert!(said[0].starts_with(&what), "{said:?}");
            set(&file, 0o600);
        }
    }

    #[test]
    fn files_that_give_no_answer_leave_the_others_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let (hung, open) = (folder.path().join("hung"), folder.path().join("open"));
        for file in [&hung, &open] {
            fs::write(file, "").unwrap();
            set(file, 0o666);
        }
        let (answer, answers) = std::sync::mpsc::channel::<()>();
        let wait = move || answers.recv().map_err(io::Error::other);
        files::run_within(Duration::from_millis(1), Budget::Warnings, &hung, wait).unwrap_err();
        let said = by_everyone([hung.as_path(), open.as_path()], Path::new("/nowhere"));
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains(&open.display().to_string()), "{said:?}");
        drop(answer);
    }

    #[test]
    fn a_state_folder_that_a_warning_waits_for_is_still_opened() {
        let state = tempfile::tempdir().unwrap();
        let (answer, answers) = std::sync::mpsc::channel::<()>();
        let slow = move |_: &Path| {
            let _ = answers.recv();
            Vec::new()
        };
        assert_eq!(looked(Duration::from_millis(1), state.path(), slow), None);
        crate::state_folder::StateFolder::open(state.path()).unwrap();
        drop(answer);
    }
}
