//! Where a site keeps its state, and the names of what is in it.

use std::path::{Path, PathBuf};

use crate::{arguments::SiteArgs, load::load};

/// The state folder of the site `name`: as told, or systemd's, or the place customary for the user.
pub(crate) fn state_folder(told: Option<&Path>, name: &str) -> PathBuf {
    let from = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    if let Some(told) = told {
        return told.to_owned();
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

/// The state folder of a command's site: as told, or by the name in the site file.
pub(crate) fn state_of(args: &SiteArgs) -> miette::Result<PathBuf> {
    if let Some(folder) = &args.state.folder {
        return Ok(folder.clone());
    }
    let loaded = load(&args.file)?;
    Ok(state_folder(None, &loaded.site.name))
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
