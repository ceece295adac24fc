//! What is no fault of a site file, but surely not meant: told by `check`, at the start, and at
//! every apply.

use renkei_runtime::process::never_matches;
use renkei_site::Site;

/// One sentence each.
pub(crate) fn of(site: &Site) -> Vec<String> {
    selectors(site)
}

/// Writes them to the log.
pub(crate) fn log(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// Selectors that no process can match where this runs.
fn selectors(site: &Site) -> Vec<String> {
    let mut warnings = Vec::new();
    for workload in site.workloads.values() {
        for selector in &workload.selectors {
            if let Some(reason) = never_matches(selector) {
                let name = &workload.name;
                warnings.push(format!(
                    "{selector} of the workload {name} matches nobody: {reason}"
                ));
            }
        }
    }
    warnings
}
