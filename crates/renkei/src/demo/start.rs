//! Brokers and sites are started, and sites linked as their operators would.

use std::{path::Path, time::Duration};

use miette::{IntoDiagnostic, WrapErr, miette};
use tokio::time::{Instant, sleep};

use super::{
    World,
    broker::Kafka,
    pipeline::Route,
    process::{Process, command},
    sites::{DemoSite, Sites},
};
use crate::{
    cli,
    site_client::{SiteClient, explain},
};

/// How long a site may take until it serves, and then until it knows its peers.
const UP: Duration = Duration::from_secs(30);

impl World {
    /// Hokkaido's broker and Tokyo's: the user's own, or one that is started for each.
    pub(super) async fn start_brokers(
        &mut self,
        args: &cli::Demo,
        sites: &Sites,
        folder: &Path,
    ) -> miette::Result<Route> {
        let mut brokers = Vec::new();
        let mut starts = Vec::new();
        for (at, site) in [&sites.hokkaido, &sites.tokyo].into_iter().enumerate() {
            if let Some(own) = args.broker.get(at).or(args.broker.first()) {
                brokers.push(own.clone());
            } else if let Some(jars) = &args.kafka {
                let java = &args.java;
                let listener = site.free_address().into_diagnostic()?;
                let controller = site.free_address().into_diagnostic()?;
                let kafka = Kafka { java, jars };
                starts.push(kafka.start(site.name, listener, controller, folder));
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
            hokkaido_listener: sites.hokkaido.outbound.to_string(),
        })
    }

    pub(super) fn start_site(&mut self, site: &DemoSite, folder: &Path) -> miette::Result<()> {
        let program = std::env::current_exe().into_diagnostic()?;
        let mut up = command(&program);
        up.arg("up").arg(&site.file).arg("--state").arg(&site.state);
        up.args([
            "--admin",
            "127.0.0.1:0",
            "--drain",
            "3s",
            "--log-format",
            "json",
        ]);
        up.env_remove("RUST_LOG").env_remove("RENKEI_STATE");
        let log = folder.join(format!("{}.log", site.name));
        let process = Process::start(site.name, up, &log)
            .into_diagnostic()
            .wrap_err_with(|| format!("cannot start the site {}", site.name))?;
        self.sites.insert(site.name, process);
        Ok(())
    }

    /// What operators do once, out of band: each hands its bundle to the others.
    pub(super) async fn exchange_bundles(&mut self, sites: &Sites) -> miette::Result<()> {
        let deadline = Instant::now() + UP;
        for site in sites.members() {
            let document = loop {
                match SiteClient::new(&site.state).bundle(None).await {
                    Ok(document) => break document,
                    Err(error) if Instant::now() > deadline => {
                        return Err(
                            explain(error).wrap_err(format!("{} does not come up", site.name))
                        );
                    }
                    Err(_) => {
                        self.nothing_ended()?;
                        sleep(Duration::from_millis(50)).await;
                    }
                }
            };
            std::fs::write(site.bootstrap(), document).into_diagnostic()?;
        }
        Ok(())
    }

    /// Waits until every member serves and has its peers' bundles.
    pub(super) async fn wait_until_linked(&mut self, sites: &Sites) -> miette::Result<()> {
        let deadline = Instant::now() + UP;
        loop {
            self.nothing_ended()?;
            let mut missing = None;
            for site in sites.members() {
                let status = SiteClient::new(&site.state).status().await.ok();
                if !status.is_some_and(|status| status.is_linked()) {
                    missing = Some(site.name);
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
