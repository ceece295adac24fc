//! `renkei status`: what a running site says about itself, read back from its control socket.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::ExitCode};

use miette::{IntoDiagnostic, WrapErr, miette};
use renkei_runtime::control::{CallError, Client};
use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    arguments::{Output, SiteArgs},
    federation::Seen,
    links,
    load::load,
    output, place, traffic,
};

/// The parts of the status that people are shown. Programs get all of it (`--output json`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Document {
    pub(crate) site: String,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) version: String,
    pub(crate) ready: bool,
    pub(crate) conditions: BTreeMap<String, Option<String>>,
    pub(crate) proxy: Proxy,
    #[serde(default)]
    pub(crate) server: Option<Server>,
    #[serde(default)]
    pub(crate) agent: Option<Agent>,
    #[serde(default)]
    pub(crate) workload_api: Option<WorkloadApi>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Proxy {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) totals: Vec<traffic::Total>,
    /// Nothing from a site that still runs an older version.
    #[serde(default)]
    pub(crate) trunks: Vec<traffic::Trunks>,
    pub(crate) refusals: Vec<traffic::Refusal>,
    pub(crate) refused: Vec<traffic::RefusalCount>,
    pub(crate) gateway: Option<SocketAddr>,
    pub(crate) hub: Option<links::Hub>,
    pub(crate) relays: Vec<links::Relayed>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Listener {
    pub(crate) listen: SocketAddr,
    pub(crate) workload: SpiffeId,
    pub(crate) target: SpiffeId,
    pub(crate) gateway: Option<String>,
}

/// The authority; without its fields when it could not say.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Server {
    #[serde(default)]
    pub(crate) peers: Vec<Peer>,
    #[serde(default)]
    pub(crate) authorities: Vec<Authority>,
    #[serde(default)]
    pub(crate) federation: Option<Seen>,
    #[serde(default)]
    pub(crate) error: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Peer {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) profile: String,
    pub(crate) sequence: Option<u64>,
    pub(crate) authorities: usize,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) last_success: Option<OffsetDateTime>,
    pub(crate) last_error: Option<String>,
}

/// Of a peer whose bundle has come and is empty.
pub(crate) const TRUSTS_NOTHING: &str =
    "its bundle has no X.509 authorities, so nothing of it is trusted";

impl Peer {
    /// Whether the peer's bundle has come and has no authority.
    pub(crate) fn trusts_nothing(&self) -> bool {
        self.authorities == 0 && (self.last_success.is_some() || self.sequence.is_some())
    }

    fn fault(&self) -> String {
        let empty = self.trusts_nothing().then(|| TRUSTS_NOTHING.to_owned());
        let parts: Vec<String> = empty.into_iter().chain(self.last_error.clone()).collect();
        parts.join("; ")
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Authority {
    pub(crate) id: String,
    pub(crate) state: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) not_after: OffsetDateTime,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Agent {
    pub(crate) svids: Vec<Identity>,
    pub(crate) socket: std::path::PathBuf,
}

/// Another agent's Workload API, where the identities come from.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WorkloadApi {
    pub(crate) socket: String,
    pub(crate) status: WorkloadApiStatus,
    #[serde(default)]
    pub(crate) svids: Vec<ForeignSvid>,
    /// Whose bundles it gives.
    #[serde(default)]
    pub(crate) trust_domains: Vec<TrustDomain>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct WorkloadApiStatus {
    pub(crate) connected: bool,
    pub(crate) updates: u64,
    pub(crate) last_error: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct ForeignSvid {
    pub(crate) id: SpiffeId,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) not_after: OffsetDateTime,
}

impl std::fmt::Display for WorkloadApi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WorkloadApiStatus {
            connected,
            updates,
            last_error,
        } = &self.status;
        let link = if *connected {
            "connected"
        } else {
            "not connected"
        };
        write!(
            f,
            "identities from {}: {link}, {updates} updates",
            self.socket
        )?;
        match last_error {
            Some(error) => write!(f, "; {error}"),
            None => Ok(()),
        }
    }
}

/// An SVID of this site.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Identity {
    pub(crate) id: SpiffeId,
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) not_after: Option<OffsetDateTime>,
    pub(crate) renewals: u64,
    pub(crate) last_error: Option<String>,
}

impl Document {
    /// Asks the site that runs with this state folder.
    pub(crate) async fn read(state: &Path) -> miette::Result<Self> {
        let value = ask(state, "/status").await?;
        serde_json::from_value(value)
            .into_diagnostic()
            .wrap_err("this version of Renkei cannot read the running site's status")
    }

    /// The own bundle of the site that runs with this state folder.
    pub(crate) async fn read_bundle(state: &Path) -> miette::Result<String> {
        let value = ask(state, "/bundles").await?;
        let document = value.get("document").and_then(Value::as_str);
        document
            .map(str::to_owned)
            .ok_or_else(|| miette!("the site gave no bundle"))
    }

    /// Ready, and with a bundle of every peer.
    pub(crate) fn is_linked(&self) -> bool {
        let peers = self.server.iter().flat_map(|server| &server.peers);
        self.ready && peers.into_iter().all(|peer| peer.authorities > 0)
    }

    /// When the SVID of an ID of this site ends, or why there is none.
    pub(crate) fn svid_end(&self, id: &SpiffeId) -> Result<OffsetDateTime, Option<String>> {
        if let Some(api) = &self.workload_api {
            let held = api.svids.iter().find(|svid| svid.id == *id);
            return held
                .map(|svid| svid.not_after)
                .ok_or_else(|| api.status.last_error.clone());
        }
        let all = self.agent.iter().flat_map(|agent| &agent.svids);
        let held = all.into_iter().find(|svid| svid.id == *id);
        let held = held.ok_or(None)?;
        held.not_after.ok_or_else(|| held.last_error.clone())
    }

    /// The SVIDs of workloads and services, without the site's own server.
    pub(crate) fn identities(&self) -> impl Iterator<Item = &Identity> {
        let all = self.agent.iter().flat_map(|agent| &agent.svids);
        all.filter(|identity| identity.id.path() != "/renkei/server")
    }

    /// Refusals of one reason.
    pub(crate) fn refused(&self, reason: &str) -> u64 {
        let counts = self.proxy.refused.iter();
        counts
            .filter(|count| count.reason == reason)
            .map(|count| count.count)
            .sum()
    }

    /// All refusals.
    pub(crate) fn refused_in_all(&self) -> u64 {
        traffic::in_all(&self.proxy.refused)
    }

    /// The newest refusal of one reason, in the site's own words.
    pub(crate) fn last_refusal(&self, reason: &str) -> Option<&traffic::Refusal> {
        self.proxy
            .refusals
            .iter()
            .find(|refusal| refusal.reason == reason)
    }
}

/// One question to a running site.
pub(crate) async fn ask(state: &Path, path: &str) -> miette::Result<Value> {
    let client = Client::new(place::control_socket(state));
    client.get(path).await.map_err(explain)
}

/// A failed call with its hint.
pub(crate) fn explain(error: CallError) -> miette::Report {
    match error.hint() {
        Some(hint) => miette!(help = hint, "{error}"),
        None => miette!("{error}"),
    }
}

/// Prints the status of the site of this file.
pub(crate) async fn run(args: &SiteArgs, form: Output) -> miette::Result<ExitCode> {
    let state = state_of(args)?;
    if form == Output::Json {
        output::print_json(&ask(&state, "/status").await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&text(&Document::read(&state).await?));
    Ok(ExitCode::SUCCESS)
}

/// The state folder: as told, or by the name in the site file.
pub(crate) fn state_of(args: &SiteArgs) -> miette::Result<std::path::PathBuf> {
    if let Some(folder) = &args.state.folder {
        return Ok(folder.clone());
    }
    let loaded = load(&args.file)?;
    Ok(place::state_folder(None, &loaded.site.name))
}

fn text(status: &Document) -> String {
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
        .agent
        .iter()
        .map(|agent| format!("Workload API at {}", agent.socket.display()))
        .chain(status.workload_api.iter().map(ToString::to_string))
        .chain(
            status
                .server
                .iter()
                .filter_map(|server| server.error.clone()),
        )
    {
        text.push_str(&line);
        text.push('\n');
    }
    text + &identities(status)
        + &authorities(status)
        + &peers(status)
        + &federation(status)
        + &links::section(&status.proxy)
        + &listeners(status)
        + &traffic::sections(&status.proxy)
}

fn identities(status: &Document) -> String {
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
        let expires = output::until(svid.not_after);
        table.add_row([
            svid.id.short(),
            expires,
            "by the agent".into(),
            String::new(),
        ]);
    }
    output::section("Identities", &table)
}

fn authorities(status: &Document) -> String {
    let mut table = output::table(&["CA", "STATE", "EXPIRES"]);
    for ca in status.server.iter().flat_map(|server| &server.authorities) {
        let short = ca.id.get(..16).unwrap_or(&ca.id);
        table.add_row([
            short.to_owned(),
            ca.state.clone(),
            output::until(ca.not_after),
        ]);
    }
    output::section("Authorities", &table)
}

fn peers(status: &Document) -> String {
    let mut table = output::table(&["PEER", "BUNDLE BY", "SEQUENCE", "FETCHED", "FAULT"]);
    for peer in status.server.iter().flat_map(|server| &server.peers) {
        table.add_row([
            peer.trust_domain.to_string(),
            peer.profile.clone(),
            peer.sequence
                .map_or("none".into(), |sequence| sequence.to_string()),
            peer.last_success.map_or("never".into(), output::since),
            peer.fault(),
        ]);
    }
    output::section("Peers", &table)
}

/// Who of the federation counts stands among the peers; here is the rest.
fn federation(status: &Document) -> String {
    let servers = status.server.iter();
    let mut text = String::new();
    for seen in servers.filter_map(|server| server.federation.as_ref()) {
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

fn listeners(status: &Document) -> String {
    let mut table = output::table(&["LISTENER", "WORKLOAD", "SERVICE", "VIA GATEWAY"]);
    for listener in &status.proxy.listeners {
        table.add_row([
            listener.listen.to_string(),
            listener.workload.short(),
            listener.target.short(),
            listener.gateway.clone().unwrap_or_default(),
        ]);
    }
    if let Some(gateway) = status.proxy.gateway {
        table.add_row([
            gateway.to_string(),
            "other sites".into(),
            "services".into(),
            String::new(),
        ]);
    }
    output::section("Listeners", &table)
}
