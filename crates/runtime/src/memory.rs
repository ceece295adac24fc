//! How much memory and how many open files the process may have.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "the kernel answers at once")
)]

use std::path::{Path, PathBuf};

/// Where control groups are mounted (cgroups(7), version 2).
const GROUPS: &str = "/sys/fs/cgroup";

/// Files and connections that the process may have open at once (RLIMIT_NOFILE).
pub fn open_files() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// Bytes of memory that the process may have: the machine's, or what its control group leaves of
/// it.
pub fn available() -> u64 {
    let system = rustix::system::sysinfo();
    let machine = u64::from(system.mem_unit) * system.totalram as u64;
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups(&own)
        .filter_map(|group| limit(&std::fs::read_to_string(group.join("memory.max")).ok()?))
        .fold(machine, u64::min)
}

/// The process's group and all above it, whose limits hold too.
fn groups(own: &str) -> impl Iterator<Item = PathBuf> {
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let group = Path::new(GROUPS).join(path.unwrap_or_default());
    let all: Vec<PathBuf> = group
        .ancestors()
        .take_while(|group| group.starts_with(GROUPS))
        .map(Path::to_owned)
        .collect();
    all.into_iter()
}

/// A group without a limit says `max`.
fn limit(said: &str) -> Option<u64> {
    said.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_all_groups_above_count() {
        let found: Vec<PathBuf> = groups("0::/system.slice/renkei.service\n").collect();
        let expected = ["system.slice/renkei.service", "system.slice", ""];
        let expected = expected.map(|group| Path::new(GROUPS).join(group));
        assert_eq!(found, expected);
        assert_eq!(groups("").count(), 1, "the root, as within a container");
        assert_eq!(
            (limit("max\n"), limit("536870912\n")),
            (None, Some(536_870_912))
        );
    }

    #[test]
    fn a_machine_has_some() {
        assert!(available() > 16 << 20);
    }
}
