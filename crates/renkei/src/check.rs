//! `renkei check`: every fault of a site file, or what follows from it.

use std::{collections::BTreeMap, path::Path, process::ExitCode};

use renkei_api::status::{PeerStatus, SiteStatus};
use renkei_site::{BundleSource, Peer, Site};
use renkei_spiffe::TrustDomain;
use serde_json::json;

use crate::{
    arguments::Output,
    bundle_files::{self, BundleFile, UnreadBundle},
    cli,
    load::load,
    output, peer_identity, place,
    site_client::SiteClient,
    warnings,
};

/// Exit status 2 with all faults, or 0 with an overview.
pub(crate) async fn run(args: &cli::Check, form: Output) -> miette::Result<ExitCode> {
    if args.schema {
        output::print_json(&renkei_site::schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    let loaded = load(&args.file)?;
    let state = place::state_folder(None, &loaded.site.name);
    let mut warnings = warnings::of(&loaded.site, &args.file, &state);
    let (bundles, unread) = bundle_files::read_all(&loaded.site);
    warnings.extend(unread.iter().map(UnreadBundle::warning));
    let first = bundles.iter().filter(|bundle| bundle.bootstrap);
    warnings.extend(first.filter_map(BundleFile::warning));
    let seen = seen(&loaded.site, &state).await;
    match form {
        Output::Text => {
            output::print(&overview(&loaded.site, &bundles, &seen));
            for warning in warnings {
                output::note(&format!("warning: {warning}"));
            }
        }
        Output::Json => {
            let site = &loaded.site;
            output::print_json(&json!({
                "ok": true,
                "config_lines": loaded.config_lines,
                "site": site.name,
                "trust_domain": site.trust_domain,
                "gateway": site.gateway,
                "server": site.server,
                "nodes": site.nodes,
                "services": site.services,
                "workloads": site.workloads,
                "peers": site.peers,
                "bundle_files": bundles,
                "identities_seen": seen,
                "federation": federation(site),
                "lifetimes": site.lifetimes,
                "warnings": warnings,
            }))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the running site has seen of peers that are known by their identity; nothing while it does
/// not run.
async fn seen(site: &Site, state: &Path) -> BTreeMap<TrustDomain, PeerStatus> {
    let by_identity = |peer: &Peer| matches!(peer.bundle, BundleSource::Identity(_));
    if !site.peers.values().any(by_identity) {
        return BTreeMap::new();
    }
    let status = SiteClient::new(state).status().await.ok();
    let server = status.as_ref().and_then(SiteStatus::authority);
    let peers = server
        .map(|server| server.peers.clone())
        .unwrap_or_default();
    let known = peers.into_iter().filter(|peer| peer.identity.is_some());
    known
        .map(|peer| (peer.trust_domain.clone(), peer))
        .collect()
}

/// What the file makes of this site, for people to compare with what they meant.
fn overview(
    site: &Site,
    bundles: &[BundleFile],
    seen: &BTreeMap<TrustDomain, PeerStatus>,
) -> String {
    let mut text = format!(
        "{} has no faults: site {}, trust domain {}\n",
        site.file(),
        site.name,
        site.trust_domain
    );
    if let Some(hub) = site
        .gateway
        .as_ref()
        .and_then(|gateway| gateway.via.as_ref())
    {
        text.push_str(&format!("Other sites reach it through the hub {hub}.\n"));
    }
    text.push_str(&nodes(site));
    text.push_str(&services(site));
    text.push_str(&workloads(site));
    text.push_str(&peers(site, bundles, seen));
    let federated = site.federation.as_ref();
    if let Some(file) = federated.and_then(|it| it.file.as_ref()) {
        text.push_str(&format!(
            "\nIts federation is {}: {} witnesses, {} of which make a quorum, read at {}\n",
            file.name,
            file.witnesses.len(),
            file.quorum,
            list(&file.mirrors)
        ));
    }
    text
}

fn nodes(site: &Site) -> String {
    let mut table = output::table(&["NODE", "GATEWAY", "SERVICES", "WORKLOADS"]);
    for node in site.nodes.values() {
        let part = site.node_part(node, 0, BTreeMap::new());
        let gateway = node.gateway.as_ref();
        let advertise = gateway.and_then(|gateway| gateway.advertise.as_ref());
        let workloads = site.workloads.values();
        let here =
            workloads.filter(|workload| workload.on.is_empty() || workload.on.contains(&node.name));
        let workloads: Vec<_> = here.map(|workload| &workload.name).collect();
        table.add_row([
            node.name.clone(),
            advertise.map_or("none".into(), ToString::to_string),
            list(&part.services.into_keys().collect::<Vec<_>>()),
            list(&workloads),
        ]);
    }
    output::section("Nodes", &table)
}

fn services(site: &Site) -> String {
    let mut table = output::table(&["SERVICE", "PROTOCOL", "BACKENDS", "ALLOWED CALLERS"]);
    for service in site.services.values() {
        let mut callers: Vec<String> = service.allow.iter().map(|id| id.short()).collect();
        callers.extend(
            service
                .policy
                .as_ref()
                .map(|policy| format!("by {}", policy.display())),
        );
        if callers.is_empty() {
            callers.push("nobody".into());
        }
        table.add_row([
            service.id.short(),
            service.protocol.as_str().to_owned(),
            list(&service.backends),
            callers.join(", "),
        ]);
    }
    output::section("Services", &table)
}

fn workloads(site: &Site) -> String {
    let mut table = output::table(&["WORKLOAD", "SELECTORS", "SERVICE", "LISTENER"]);
    for workload in site.workloads.values() {
        let selectors = list(&workload.selectors);
        if workload.uses.is_empty() {
            table.add_row([
                workload.id.short(),
                selectors.clone(),
                "nothing".into(),
                String::new(),
            ]);
        }
        for used in &workload.uses {
            table.add_row([
                workload.id.short(),
                selectors.clone(),
                used.target.short(),
                used.listen.to_string(),
            ]);
        }
    }
    output::section("Workloads", &table)
}

fn peers(site: &Site, bundles: &[BundleFile], seen: &BTreeMap<TrustDomain, PeerStatus>) -> String {
    let mut table = output::table(&["PEER", "BUNDLE FROM", "EXPIRES", "GATEWAY"]);
    for peer in site.peers.values() {
        let bundle = match &peer.bundle {
            BundleSource::File(file) => file.display().to_string(),
            BundleSource::HttpsWeb { url, .. } => format!("{url} (https_web)"),
            BundleSource::HttpsSpiffe { url, .. } => format!("{url} (https_spiffe)"),
            BundleSource::Identity(pinned) => {
                let digest = pinned.digest.get(..12).unwrap_or_default();
                let seen = seen.get(&peer.trust_domain).and_then(peer_identity::seen);
                let seen = seen.map(|seen| format!(": {seen}")).unwrap_or_default();
                format!("its identity {digest}{seen}")
            }
            BundleSource::Federation => "the federation".to_owned(),
        };
        let gateway = match site.relays.contains(&peer.trust_domain) {
            true => "this site is its hub".to_owned(),
            false => peer
                .gateway
                .as_ref()
                .map_or("none".into(), ToString::to_string),
        };
        let mut files = bundles.iter();
        let file = files.find(|file| file.trust_domain == peer.trust_domain);
        let expires = file.map(|file| output::until(file.end)).unwrap_or_default();
        table.add_row([peer.trust_domain.to_string(), bundle, expires, gateway]);
    }
    output::section("Peers", &table)
}

/// The federation in the JSON output; null without one.
fn federation(site: &Site) -> serde_json::Value {
    let Some((federated, file)) = site
        .federation
        .as_ref()
        .and_then(|it| Some((it, it.file.as_ref()?)))
    else {
        return serde_json::Value::Null;
    };
    let witnesses: Vec<_> = file.witnesses.keys().collect();
    json!({
        "file": federated.path,
        "name": file.name,
        "quorum": file.quorum,
        "witnesses": witnesses,
        "mirrors": file.mirrors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "deny": federated.deny,
        "admit": federated.admit,
    })
}

fn list(items: &[impl ToString]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}
