//! `renkei demo`: the paper's four sites on one machine, a Kafka pipeline on real input through
//! them, and intruders who must be refused.
//!
//! Every site is a `renkei up` process of its own with its own state and CA; Hokkaido has two nodes
//! as well. The demo only starts programs, watches them through the same status that
//! `renkei status` shows, and counts.

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
mod start;
mod view;
mod watch;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use miette::{IntoDiagnostic, WrapErr, miette};

use self::{
    intruders::Attempt,
    pipeline::Pipeline,
    process::Process,
    report::{NodeReport, Report, Tally},
    sites::{SERVER_NODE, Sites, Surroundings},
    start::make_identities,
    view::View,
};
use crate::{
    arguments::Output,
    cli, output,
    site_client::{SiteClient, explain},
};

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

/// The machines of Hokkaido, as each says of itself.
async fn nodes(sites: &Sites) -> miette::Result<Vec<NodeReport>> {
    let nodes = sites.nodes().map(|node| (node.role, &node.state));
    let mut reports = Vec::new();
    for (role, state) in [(SERVER_NODE, &sites.hokkaido.state)]
        .into_iter()
        .chain(nodes)
    {
        let status = SiteClient::new(state).status().await.map_err(explain)?;
        reports.push(NodeReport::new(role, &status));
    }
    Ok(reports)
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

/// Processes and programs of the demo; all of them end with it.
#[derive(Default)]
struct World {
    /// Those of Renkei: sites and nodes.
    processes: BTreeMap<&'static str, Process>,
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
        let pins = make_identities(&sites, args.svid_life).await?;
        let config_lines = sites
            .write(&Surroundings {
                hokkaido_broker: &route.hokkaido_broker,
                tokyo_broker: &route.tokyo_broker,
                svid_life: args.svid_life,
                uid: rustix::process::geteuid().as_raw(),
                pins: &pins,
            })
            .into_diagnostic()
            .wrap_err("cannot write the site files")?;
        for site in sites.members().into_iter().chain([&sites.nagoya]) {
            self.start_site(site, folder)?;
        }
        self.join_nodes(&sites, folder).await?;
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
        for (_, state) in sites.processes() {
            tally.add(&SiteClient::new(state).status().await.map_err(explain)?);
        }
        Ok(Report::new(
            progress,
            attempts,
            (&tally, nodes(&sites).await?),
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

    /// A program that has ended on its own ends the demo, with its name.
    fn nothing_ended(&mut self) -> miette::Result<()> {
        let ended = self
            .processes
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
        let processes = self.processes.values_mut();
        let stopped = processes.map(|process| process.stop(limit));
        futures_util::future::join_all(stopped).await;
        for broker in &mut self.brokers {
            broker.kill().await;
        }
    }
}
