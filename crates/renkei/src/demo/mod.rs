//! `renkei demo`: the paper's four sites on one machine, a Kafka pipeline on real input through
//! them, and intruders who must be refused.
//!
//! Every site is a `renkei up` process of its own with its own state and CA; the demo only starts
//! programs, watches them through the same status that `renkei status` shows, and counts.

#![allow(
    clippy::disallowed_methods,
    reason = "a command that ends, and the only one that uses the files that it makes"
)]

mod broker;
mod intruders;
mod pipeline;
mod process;
mod report;
mod sites;
mod view;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use miette::{IntoDiagnostic, WrapErr, miette};
use tokio::time::{Instant, sleep};

use self::{
    broker::Kafka,
    intruders::Attempt,
    pipeline::{Pipeline, Progress, Route},
    process::{Process, command},
    report::{Report, Tally},
    sites::{DemoSite, Sites, Surroundings},
    view::View,
};
use crate::{
    arguments::Output,
    cli, output,
    site_client::{SiteClient, explain},
};

/// How long the last records may take to arrive once the sources have ended.
const TAIL: Duration = Duration::from_secs(30);
/// How long the sources may take to write their first records.
const FIRST_RECORDS: Duration = Duration::from_secs(60);

/// Runs the demo; Ctrl-C, SIGTERM and a closed terminal end it early and clean up.
pub(crate) async fn run(args: &cli::Demo, form: Output) -> miette::Result<ExitCode> {
    if args.broker.len() > 2 {
        return Err(miette!(
            help = "once for both sites, or twice: Hokkaido's and Tokyo's",
            "--broker is given {} times",
            args.broker.len()
        ));
    }
    let (folder, _temporary) = work_folder(args)?;
    let mut world = World::default();
    let result = tokio::select! {
        result = world.play(args, form, &folder) => result,
        () = interrupted() => Err(miette!("interrupted; every started process has been stopped")),
    };
    world.end().await;
    let report = result?;
    match form {
        Output::Json => output::print_json(&report)?,
        Output::Text => output::print(&report.summary()),
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    );
    let (Ok(mut terminate), Ok(mut hangup)) = signals else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

fn work_folder(args: &cli::Demo) -> miette::Result<(PathBuf, Option<tempfile::TempDir>)> {
    match &args.keep {
        Some(folder) => {
            std::fs::create_dir_all(folder)
                .into_diagnostic()
                .wrap_err_with(|| format!("cannot make the folder {}", folder.display()))?;
            let folder = folder.canonicalize().into_diagnostic()?;
            Ok((folder, None))
        }
        None => {
            let folder = tempfile::Builder::new()
                .prefix("renkei-demo-")
                .tempdir()
                .into_diagnostic()
                .wrap_err("cannot make a temporary folder")?;
            Ok((folder.path().to_owned(), Some(folder)))
        }
    }
}

/// Everything that runs.
#[derive(Default)]
struct World {
    sites: BTreeMap<&'static str, Process>,
    brokers: Vec<Process>,
    pipeline: Option<Pipeline>,
    view: Option<View>,
}

impl World {
    async fn play(
        &mut self,
        args: &cli::Demo,
        form: Output,
        folder: &Path,
    ) -> miette::Result<Report> {
        pipeline::check_programs(args).await?;
        let view = self.view.insert(View::new(form, args.seconds));
        view.say("starting the brokers and four sites");
        let sites = Sites::plan(folder)
            .into_diagnostic()
            .wrap_err("no loopback addresses")?;
        let route = self.start_brokers(args, &sites, folder).await?;
        let config_lines = sites
            .write(&Surroundings {
                hokkaido_broker: &route.hokkaido_broker,
                tokyo_broker: &route.tokyo_broker,
                svid_life: args.svid_life,
                uid: rustix::process::geteuid().as_raw(),
            })
            .into_diagnostic()
            .wrap_err("cannot write the site files")?;
        for site in sites.members().into_iter().chain([&sites.nagoya]) {
            self.start_site(site, folder)?;
        }
        self.exchange_bundles(&sites).await?;
        self.say("waiting until the sites know each other");
        self.wait_until_linked(&sites).await?;
        let topic = format!("renkei-demo-{}", std::process::id());
        let started = Pipeline::start(args, &route, &topic, folder).await;
        if started.is_err() {
            // A broker that has ended is the better reason.
            self.nothing_ended()?;
        }
        self.pipeline = Some(started?);
        self.wait_until_written().await?;
        let mut tally = Tally::default();
        let attempts = self.watch(args, &sites, folder, &mut tally).await?;
        let progress = self.collect_tail(&sites, &attempts).await?;
        for site in sites.members() {
            tally.add(
                &SiteClient::new(&site.state)
                    .status()
                    .await
                    .map_err(explain)?,
            );
        }
        Ok(Report::new(
            progress,
            attempts,
            &tally,
            args.seconds,
            config_lines,
        ))
    }

    fn say(&mut self, text: &str) {
        if let Some(view) = &mut self.view {
            view.say(text);
        }
    }

    fn tell(&mut self, attempts: &mut Vec<Attempt>, attempt: Attempt) {
        if let Some(view) = &mut self.view {
            view.tell(&attempt);
        }
        attempts.push(attempt);
    }

    /// Hokkaido's broker and Tokyo's: the user's own, or one that is started for each.
    async fn start_brokers(
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

    fn start_site(&mut self, site: &DemoSite, folder: &Path) -> miette::Result<()> {
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
    async fn exchange_bundles(&mut self, sites: &Sites) -> miette::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
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
    async fn wait_until_linked(&mut self, sites: &Sites) -> miette::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
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

    /// Waits for the first record of each source: on a busy machine their start takes longer than
    /// they are to write.
    async fn wait_until_written(&mut self) -> miette::Result<()> {
        self.say("waiting for the first records");
        let deadline = Instant::now() + FIRST_RECORDS;
        loop {
            self.nothing_ended()?;
            let pipeline = self.pipeline.as_ref();
            let progress = pipeline.map(Pipeline::progress).unwrap_or_default();
            if progress.osaka > 0 && progress.kyushu > 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seconds = FIRST_RECORDS.as_secs();
                return Err(miette!(
                    help = "run again with --keep FOLDER and read the logs in that folder",
                    "the sources have written nothing after {seconds} s"
                ));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Lets the sources write for the time asked, with intruders trying meanwhile.
    async fn watch(
        &mut self,
        args: &cli::Demo,
        sites: &Sites,
        folder: &Path,
        tally: &mut Tally,
    ) -> miette::Result<Vec<Attempt>> {
        let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
        let intruders = intruders::try_all(sites, &args.python, move |attempt| {
            let _ = report.send(attempt);
        });
        tokio::pin!(intruders);
        let mut attempts = Vec::new();
        let mut all_tried = false;
        let mut to_kill = args.kill.as_deref().and_then(|name| sites.member(name));
        let start = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        while !all_tried || start.elapsed().as_secs() < args.seconds {
            tokio::select! {
                done = &mut intruders, if !all_tried => {
                    done?;
                    all_tried = true;
                }
                Some(attempt) = reports.recv() => self.tell(&mut attempts, attempt),
                _ = tick.tick() => {
                    self.nothing_ended()?;
                    self.show(sites, start.elapsed(), &attempts).await;
                    let halfway = start.elapsed().as_secs() * 2 >= args.seconds;
                    if let Some(site) = to_kill.take_if(|_| halfway && all_tried) {
                        self.kill_and_restart(site, folder, tally).await?;
                    }
                }
            }
        }
        // The last one reports as the trying ends.
        while let Ok(attempt) = reports.try_recv() {
            self.tell(&mut attempts, attempt);
        }
        if let Some(site) = to_kill {
            self.kill_and_restart(site, folder, tally).await?;
        }
        Ok(attempts)
    }

    /// What the site has counted up to here goes into the tally: it starts from nothing.
    async fn kill_and_restart(
        &mut self,
        site: &DemoSite,
        folder: &Path,
        tally: &mut Tally,
    ) -> miette::Result<()> {
        self.say(&format!(
            "killing {} with SIGKILL, and starting it again",
            site.name
        ));
        tally.add(
            &SiteClient::new(&site.state)
                .status()
                .await
                .map_err(explain)?,
        );
        if let Some(process) = self.sites.get_mut(site.name) {
            process.kill().await;
        }
        sleep(Duration::from_secs(2)).await;
        self.start_site(site, folder)
    }

    /// Ends the sources, and waits for what they sent.
    async fn collect_tail(
        &mut self,
        sites: &Sites,
        attempts: &[Attempt],
    ) -> miette::Result<Progress> {
        self.say("the sources have finished; waiting for the last records");
        let Some(pipeline) = &mut self.pipeline else {
            return Ok(Progress::default());
        };
        pipeline.stop_sources().await;
        let deadline = Instant::now() + TAIL;
        loop {
            let progress = match &self.pipeline {
                Some(pipeline) => pipeline.progress(),
                None => Progress::default(),
            };
            self.show(sites, Duration::MAX, attempts).await;
            if progress.delivered >= progress.sent() || Instant::now() > deadline {
                return Ok(progress);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    async fn show(&mut self, sites: &Sites, passed: Duration, attempts: &[Attempt]) {
        let progress = self
            .pipeline
            .as_ref()
            .map(Pipeline::progress)
            .unwrap_or_default();
        let mut documents = Vec::new();
        for site in sites.members() {
            documents.push((site.name, SiteClient::new(&site.state).status().await.ok()));
        }
        if let Some(view) = &mut self.view {
            view.show(&documents, progress, passed, attempts);
        }
    }

    /// A program that has ended on its own ends the demo, with its name.
    fn nothing_ended(&mut self) -> miette::Result<()> {
        let ended = self
            .sites
            .values_mut()
            .chain(&mut self.brokers)
            .find_map(Process::ended)
            .or_else(|| self.pipeline.as_mut().and_then(Pipeline::ended_early));
        match ended {
            None => Ok(()),
            Some(what) => Err(miette!(
                help = "run again with --keep FOLDER and read the logs in that folder",
                "{what}"
            )),
        }
    }

    async fn end(&mut self) {
        if let Some(mut view) = self.view.take() {
            view.clear();
        }
        if let Some(mut pipeline) = self.pipeline.take() {
            pipeline.stop().await;
        }
        let limit = Duration::from_secs(6);
        let sites = self.sites.values_mut().map(|site| site.stop(limit));
        futures_util::future::join_all(sites).await;
        for broker in &mut self.brokers {
            broker.kill().await;
        }
    }
}
