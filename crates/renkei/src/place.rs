//! Where a site keeps its state, and the names of what is in it.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use miette::miette;
use renkei_runtime::files;

use crate::{
    arguments::{SITE_FILE, SiteArgs},
    load::{LoadError, load},
};

/// What the folders of nodes begin with; the trust domain follows.
const NODE: &str = "node-";

/// The state folder of the site `name`: as given, or systemd's, or the usual place for the user.
pub(crate) fn state_folder(given: Option<&Path>, name: &str) -> PathBuf {
    let from = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    if let Some(given) = given {
        return given.to_owned();
    }
    if let Some(folder) = from("STATE_DIRECTORY") {
        return folder;
    }
    if rustix::process::geteuid().is_root() {
        return Path::new("/var/lib/renkei").join(name);
    }
    from("XDG_STATE_HOME")
        .or_else(|| Some(from("HOME")?.join(".local/state")))
        .unwrap_or_else(std::env::temp_dir)
        .join("renkei")
        .join(name)
}

/// The state folder of a command's site: as given, or by the name in the site file.
pub(crate) fn state_of(args: &SiteArgs) -> miette::Result<PathBuf> {
    if let Some(folder) = &args.state.folder {
        return Ok(folder.clone());
    }
    match load(&args.file) {
        Ok(loaded) => Ok(state_folder(None, &loaded.site.name)),
        Err(error @ LoadError::Unreadable { .. }) if args.file == Path::new(SITE_FILE) => {
            match one_node()? {
                Some(folder) => Ok(folder),
                None => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// The folder for the sockets of a node of this trust domain: nothing in it outlives the node.
pub(crate) fn node_folder(trust_domain: &str) -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("RUNTIME_DIRECTORY") {
        return Some(PathBuf::from(folder).join("node"));
    }
    Some(nodes()?.join(format!("{NODE}{trust_domain}")))
}

/// Where the nodes of this user have their folders.
fn nodes() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some("/run/renkei".into());
    }
    let folder = std::env::var_os("XDG_RUNTIME_DIR")?;
    Some(PathBuf::from(folder).join("renkei"))
}

/// The folder of the node that runs here, if this user has one.
fn one_node() -> miette::Result<Option<PathBuf>> {
    let Some(nodes) = nodes() else {
        return Ok(None);
    };
    let owned = nodes.clone();
    let found = files::run(&nodes, move || {
        let entries = fs::read_dir(owned)?.flatten().map(|entry| entry.path());
        let is_node = |path: &PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with(NODE) && control_socket(path).exists()
        };
        Ok(entries.filter(is_node).collect::<Vec<_>>())
    });
    match found.unwrap_or_default().as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        several => {
            let names = several.iter().map(|path| path.display().to_string());
            Err(miette!(
                help = "choose one with --state FOLDER",
                "several nodes run here: {}",
                names.collect::<Vec<_>>().join(", ")
            ))
        }
    }
}

/// The socket of `renkei status`, `apply` and `explain`; only the site's own user may use it.
pub(crate) fn control_socket(state: &Path) -> PathBuf {
    state.join("control.sock")
}

/// The SPIFFE Workload API. Everyone may ask; attestation decides who gets what. It lies in a
/// folder of its own, because the state folder itself is closed to others: systemd's run-time
/// folder, or `<state folder>.public`.
pub(crate) fn workload_socket(state: &Path) -> PathBuf {
    if let Some(folder) = std::env::var_os("RUNTIME_DIRECTORY") {
        return PathBuf::from(folder).join("workload.sock");
    }
    let mut folder = state.as_os_str().to_owned();
    folder.push(".public");
    PathBuf::from(folder).join("workload.sock")
}
