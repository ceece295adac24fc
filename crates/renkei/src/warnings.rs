//! What is no fault of a site file, but surely not meant: shown by `check`, at the start, and at
//! every apply.

use std::path::Path;

use renkei_runtime::{exposure, files, process::never_matches};
use renkei_site::{BundleSource, Site};

use crate::{
    bundle_files,
    open_ports::{loopback_port, open_port},
};

/// One sentence each, about a site file and the folder that holds, or will hold, its state.
pub(crate) fn of(site: &Site, file: &Path, state: &Path) -> Vec<String> {
    let mut warnings = selectors(site);
    warnings.extend(open_backends(site));
    warnings.extend(unix_sockets(site));
    // A bootstrap file may expire once a newer bundle was fetched.
    let bundles = bundle_files::of(site).into_iter();
    warnings.extend(
        bundles
            .filter(|of| !of.bootstrap)
            .filter_map(|of| of.warning()),
    );
    let files = files(site).into_iter().chain([file]);
    warnings.extend(exposure::by_everyone(files, state));
    warnings
}

/// The files that the site runs by.
fn files(site: &Site) -> Vec<&Path> {
    let mut files: Vec<&Path> = Vec::new();
    let policies = site.services.values().map(|service| &service.policy);
    files.extend(policies.flatten().map(AsRef::<Path>::as_ref));
    for peer in site.peers.values() {
        match &peer.bundle {
            BundleSource::File(path) => files.push(path),
            BundleSource::HttpsWeb { roots, .. } => {
                files.extend(roots.iter().map(AsRef::<Path>::as_ref));
            }
            BundleSource::HttpsSpiffe { bootstrap, .. } => files.push(bootstrap),
            BundleSource::Identity(_) | BundleSource::Federation => {}
        }
    }
    if let Some(endpoint) = &site.bundle_endpoint {
        files.extend([endpoint.certificate.as_path(), endpoint.key.as_path()]);
    }
    files.extend(site.federation.iter().map(|it| it.path.as_path()));
    files
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
                    "{selector} of the workload {name} matches no process: {reason}"
                ));
            }
        }
    }
    warnings
}

/// Unix sockets that the proxy of this process will not connect to.
fn unix_sockets(site: &Site) -> Vec<String> {
    let services = site.services_held(None).into_iter().flatten();
    let all = services.flat_map(|service| service.backends.iter().map(move |one| (service, one)));
    let faults = all.filter_map(|(service, backend)| {
        let path = backend.unix()?;
        let owned = path.to_owned();
        let judged = files::run(path, move || Ok(exposure::judge_socket(&owned)));
        let fault = match judged {
            Ok(judged) => judged.err()?.to_string(),
            Err(error) => error.to_string(),
        };
        Some(format!(
            "{backend} of {} is not used: {fault}",
            service.name
        ))
    });
    faults.collect()
}

/// Backends that every user of their machine can dial, past the mesh: one sentence for this machine
/// and one for that of each node.
fn open_backends(site: &Site) -> Vec<String> {
    let nodes = site.nodes.keys().map(|name| Some(name.as_str()));
    let processes = std::iter::once(None).chain(nodes);
    processes
        .filter_map(|node| open_backends_at(site, node))
        .collect()
}

fn open_backends_at(site: &Site, node: Option<&str>) -> Option<String> {
    let services = site.services_held(node)?.into_iter();
    let open: Vec<String> = services
        .flat_map(|service| {
            let open = service.backends.iter().filter(|it| match node {
                None => open_port(it).is_some(),
                Some(_) => loopback_port(it).is_some(),
            });
            open.map(|backend| format!("{backend} of {}", service.name))
        })
        .collect();
    let ports = match open.len() {
        0 => return None,
        1 => "the port",
        _ => "the ports",
    };
    let (machine, option) = match node {
        None => ("this machine".to_owned(), String::new()),
        Some(name) => (
            format!("the machine of the node {name}"),
            format!(" --node {name}"),
        ),
    };
    Some(format!(
        "every user of {machine} can connect to {} past the mesh: if others use the machine, close \
         {ports} with `renkei render nftables{option}`",
        open.join(", "),
    ))
}
