//! `renkei status`: what a running site says about itself, read back from its control socket.

use std::process::ExitCode;

use renkei_api::status::{
    PeerStatus, ServerLinkStatus, ServerReport, SiteStatus, WorkloadApiStatus,
};

use crate::{
    arguments::{Output, SiteArgs},
    links, nodes, output, peer_identity, place,
    site_client::{SiteClient, explain},
    traffic,
};

/// Of a peer whose bundle has come and is empty.
pub(crate) const TRUSTS_NOTHING: &str =
    "its bundle has no X.509 authorities, so nothing of it is trusted";

/// Prints the status of the site of this file.
pub(crate) async fn run(args: &SiteArgs, form: Output) -> miette::Result<ExitCode> {
    let site = SiteClient::new(&place::state_of(args)?);
    if form == Output::Json {
        let status = site.status_document().await.map_err(explain)?;
        output::print_json(&status)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&text(&site.status().await.map_err(explain)?));
    Ok(ExitCode::SUCCESS)
}

fn peer_fault(peer: &PeerStatus) -> String {
    let empty = peer.trusts_nothing().then(|| TRUSTS_NOTHING.to_owned());
    let parts: Vec<String> = empty.into_iter().chain(peer.last_error.clone()).collect();
    parts.join("; ")
}

/// Another agent's Workload API, where the identities come from.
fn source(api: &WorkloadApiStatus) -> String {
    let link = match api.status.connected {
        true => "connected",
        false => "not connected",
    };
    let (socket, updates) = (&api.socket, api.status.updates);
    let text = format!("identities from {socket}: {link}, {updates} updates");
    match &api.status.last_error {
        Some(error) => format!("{text}; {error}"),
        None => text,
    }
}

/// A node's server, and how it is doing with it.
fn node(node: &ServerLinkStatus) -> String {
    let server = &node.server;
    let link = match (node.connected_since, &node.last_error) {
        (Some(since), _) => format!("connected {}", output::since(since)),
        (None, Some(error)) => format!("not connected: {error}"),
        (None, None) => "not connected yet".to_owned(),
    };
    let version = match node.version {
        Some(version) => format!("configuration {version}"),
        None => "no configuration yet".to_owned(),
    };
    let end = output::until(node.svid_end);
    format!("node of the server {server}: {link}; {version}; SVID expires {end}")
}

fn node_faults(status: &SiteStatus) -> String {
    let mut table = output::table(&["NOT TAKEN", "REASON"]);
    for fault in status.node.iter().flat_map(|node| &node.faults) {
        table.add_row([&fault.item, &fault.reason]);
    }
    output::section("Configuration", &table)
}

fn text(status: &SiteStatus) -> String {
    let ready = match status.ready {
        true => "ready".to_owned(),
        false => {
            let missing = status.conditions.iter().filter_map(|(name, reason)| {
                reason.as_ref().map(|reason| format!("{name}: {reason}"))
            });
            format!("not ready ({})", missing.collect::<Vec<_>>().join("; "))
        }
    };
    let mut text = format!(
        "{} ({}), renkei {}, {ready}\n",
        status.site, status.trust_domain, status.version
    );
    for line in status
        .node
        .iter()
        .map(node)
        .chain(
            status
                .agent
                .iter()
                .map(|agent| format!("Workload API at {}", agent.socket.display())),
        )
        .chain(status.workload_api.iter().map(source))
        .chain(
            status
                .authority()
                .and_then(|server| server.identity.as_ref())
                .map(peer_identity::own),
        )
        .chain(status.server.iter().filter_map(|server| match server {
            ServerReport::Failed { error } => Some(error.clone()),
            ServerReport::Status(_) => None,
        }))
    {
        text.push_str(&line);
        text.push('\n');
    }
    text + &node_faults(status)
        + &identities(status)
        + &authorities(status)
        + &peers(status)
        + &federation(status)
        + &nodes::section(status)
        + &links::section(&status.proxy)
        + &listeners(status)
        + &traffic::sections(&status.proxy)
}

fn identities(status: &SiteStatus) -> String {
    let mut table = output::table(&["IDENTITY", "EXPIRES", "RENEWED", "FAULT"]);
    for svid in status.agent.iter().flat_map(|agent| &agent.svids) {
        table.add_row([
            svid.id.short(),
            svid.not_after.map_or("none yet".into(), output::until),
            svid.renewals.to_string(),
            svid.last_error.clone().unwrap_or_default(),
        ]);
    }
    for svid in status.workload_api.iter().flat_map(|api| &api.svids) {
        let expires = svid.not_after.map_or("none yet".into(), output::until);
        table.add_row([
            svid.id.short(),
            expires,
            "by the agent".into(),
            String::new(),
        ]);
    }
    output::section("Identities", &table)
}

fn authorities(status: &SiteStatus) -> String {
    let mut table = output::table(&["CA", "STATE", "EXPIRES"]);
    for ca in status
        .authority()
        .into_iter()
        .flat_map(|server| &server.authorities)
    {
        let short = ca.id.get(..16).unwrap_or(&ca.id);
        table.add_row([
            short.to_owned(),
            ca.state.as_str().to_owned(),
            output::until(ca.not_after),
        ]);
    }
    output::section("Authorities", &table)
}

fn peers(status: &SiteStatus) -> String {
    let mut table = output::table(&[
        "PEER",
        "BUNDLE BY",
        "SEQUENCE",
        "FETCHED",
        "EXPIRES",
        "FAULT",
    ]);
    for peer in status
        .authority()
        .into_iter()
        .flat_map(|server| &server.peers)
    {
        table.add_row([
            peer.trust_domain.to_string(),
            match peer_identity::seen(peer) {
                Some(seen) => format!("{}: {seen}", peer.profile),
                None => peer.profile.to_string(),
            },
            peer.sequence
                .map_or("none".into(), |sequence| sequence.to_string()),
            peer.last_success.map_or("never".into(), output::since),
            peer.bundle_end.map_or("none".into(), output::until),
            peer_fault(peer),
        ]);
    }
    output::section("Peers", &table)
}

/// Valid members of the federation are shown among the peers; here are the others.
fn federation(status: &SiteStatus) -> String {
    let server = status.authority();
    let mut text = String::new();
    if let Some(seen) = server.and_then(|server| server.federation.as_ref()) {
        let mut table = output::table(&["NOT A MEMBER", "REASON"]);
        for member in seen.members.iter().filter(|member| !member.counts) {
            table.add_row([
                member.trust_domain.to_string(),
                member.reason.clone().unwrap_or_default(),
            ]);
        }
        for alarm in &seen.alarms {
            table.add_row(["ALARM", alarm]);
        }
        text += &output::section(&format!("Federation {}", seen.name), &table);
    }
    text
}

fn listeners(status: &SiteStatus) -> String {
    let mut table = output::table(&["LISTENER", "WORKLOAD", "SERVICE", "VIA GATEWAY", "FAULT"]);
    for listener in &status.proxy.listeners {
        table.add_row([
            listener.listen.to_string(),
            listener.workload.short(),
            listener.target.short(),
            listener.gateway.clone().unwrap_or_default(),
            listener.fault.clone().unwrap_or_default(),
        ]);
    }
    if let Some(gateway) = status.proxy.gateway {
        table.add_row([
            gateway.to_string(),
            "other sites".into(),
            "services".into(),
            String::new(),
            String::new(),
        ]);
    }
    output::section("Listeners", &table)
}
