//! Brokers and sites are started, and sites linked as their operators would.

use std::{path::Path, time::Duration};

use miette::{IntoDiagnostic, WrapErr, miette};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    World,
    broker::Kafka,
    pipeline::Route,
    process::{Process, command},
    sites::{DemoNode, DemoSite, Pins, Sites, free_address},
};
use crate::{
    cli,
    site_client::{SiteClient, explain},
};

/// How long a site may take until it serves, and then until it knows its peers.
const UP: Duration = Duration::from_secs(30);
/// How long a token may wait for its node.
const TOKEN_LIFE: Duration = Duration::from_secs(60);

/// What operators do once, before anything runs: each makes the identity of its site, and hands it
/// to the others.
pub(super) async fn make_identities(sites: &Sites, svid_life: Duration) -> miette::Result<Pins> {
    sites.write_heads(svid_life).into_diagnostic()?;
    let mut pins = Pins::new();
    for site in sites.members() {
        let pin = make_identity(site)
            .await
            .wrap_err_with(|| format!("{} has no identity", site.name))?;
        pins.insert(site.name, pin);
    }
    Ok(pins)
}

async fn make_identity(site: &DemoSite) -> miette::Result<String> {
    let program = std::env::current_exe().into_diagnostic()?;
    let mut identity = command(&program);
    identity.arg("identity").arg(&site.file);
    identity.arg("--state").arg(&site.state);
    identity.args(["--output", "json"]);
    identity.env_remove("RUST_LOG").env_remove("RENKEI_STATE");
    let shown = identity.output().await.into_diagnostic()?;
    if !shown.status.success() {
        let text = [shown.stdout, shown.stderr].concat();
        return Err(miette!("{}", String::from_utf8_lossy(&text).trim()));
    }
    let shown: Value = serde_json::from_slice(&shown.stdout).into_diagnostic()?;
    let pin = shown.get("pin").and_then(Value::as_str);
    let pin = pin.ok_or_else(|| miette!("renkei identity printed no pin"))?;
    Ok(pin.to_owned())
}

impl World {
    /// The broker of Hokkaido's node and that of Tokyo: the user's own, or one that is started for
    /// each.
    pub(super) async fn start_brokers(
        &mut self,
        args: &cli::Demo,
        sites: &Sites,
        folder: &Path,
    ) -> miette::Result<Route> {
        let mut brokers = Vec::new();
        let mut starts = Vec::new();
        let places = [
            (sites.hokkaido.name, sites.store.ip),
            (sites.tokyo.name, sites.tokyo.ip),
        ];
        for (at, (site, ip)) in places.into_iter().enumerate() {
            if let Some(own) = args.broker.get(at).or(args.broker.first()) {
                brokers.push(own.clone());
            } else if let Some(jars) = &args.kafka {
                let java = &args.java;
                let listener = free_address(ip).into_diagnostic()?;
                let controller = free_address(ip).into_diagnostic()?;
                let kafka = Kafka { java, jars };
                starts.push(kafka.start(site, listener, controller, folder));
                brokers.push(listener.to_string());
            }
        }
        self.brokers = futures_util::future::try_join_all(starts).await?;
        let [hokkaido_broker, tokyo_broker] =
            <[String; 2]>::try_from(brokers).map_err(|_| miette!("two brokers are needed"))?;
        Ok(Route {
            hokkaido_broker,
            tokyo_broker,
            osaka_listener: sites.osaka.outbound.to_string(),
            kyushu_listener: sites.kyushu.outbound.to_string(),
            forwarder_source: sites.forwarder_source.to_string(),
            forwarder_target: sites.forwarder_target.to_string(),
        })
    }

    pub(super) fn start_site(&mut self, site: &DemoSite, folder: &Path) -> miette::Result<()> {
        let program = std::env::current_exe().into_diagnostic()?;
        let mut up = command(&program);
        up.arg("up").arg(&site.file).arg("--state").arg(&site.state);
        self.start_process(site.name, up, folder)
    }

    fn start_process(
        &mut self,
        name: &'static str,
        mut renkei: tokio::process::Command,
        folder: &Path,
    ) -> miette::Result<()> {
        renkei.args(["--admin", "127.0.0.1:0", "--drain", "3s"]);
        renkei.args(["--log-format", "json"]);
        renkei.env_remove("RUST_LOG").env_remove("RENKEI_STATE");
        let log = folder.join(format!("{name}.log"));
        let process = Process::start(name, renkei, &log)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot start {name}"))?;
        self.processes.insert(name, process);
        Ok(())
    }

    /// The other machines of Hokkaido join it, each with a token. No file is copied to them.
    pub(super) async fn join_nodes(&mut self, sites: &Sites, folder: &Path) -> miette::Result<()> {
        let program = std::env::current_exe().into_diagnostic()?;
        let server = SiteClient::new(&sites.hokkaido.state);
        for DemoNode { name, state, .. } in sites.nodes() {
            let token = self.node_token(&server, name).await?;
            let mut join = command(&program);
            join.args(["node", "join", &sites.hokkaido_server.to_string()]);
            join.arg("--state").arg(state);
            join.env("RENKEI_NODE_TOKEN", token);
            self.start_process(name, join, folder)?;
        }
        Ok(())
    }

    /// The server has its certificate, which a token names, a moment after its start.
    async fn node_token(&mut self, server: &SiteClient, node: &str) -> miette::Result<String> {
        let deadline = Instant::now() + UP;
        loop {
            match server.node_token(node, TOKEN_LIFE.as_secs()).await {
                Ok(made) => return Ok(made.token),
                Err(error) if Instant::now() > deadline => return Err(explain(error)),
                Err(_) => {
                    self.nothing_ended()?;
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// Waits until every process of the members serves and has its peers' bundles.
    pub(super) async fn wait_until_linked(&mut self, sites: &Sites) -> miette::Result<()> {
        let deadline = Instant::now() + UP;
        loop {
            self.nothing_ended()?;
            let mut missing = None;
            for (name, state) in sites.processes() {
                let status = SiteClient::new(state).status().await.ok();
                if !status.is_some_and(|status| status.is_linked()) {
                    missing = Some(name);
                }
            }
            match missing {
                None => return Ok(()),
                Some(name) if Instant::now() > deadline => {
                    return Err(miette!("{name} does not know its peers after 30 s"));
                }
                Some(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}
