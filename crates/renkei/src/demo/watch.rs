//! The pipeline while it runs: records, intruders, a site that is killed, and the last records.

use std::{collections::VecDeque, path::Path, time::Duration};

use miette::miette;
use tokio::time::{Instant, sleep};

use super::{
    World,
    intruders::{self, Attempt},
    pipeline::{Pipeline, Progress},
    report::Tally,
    sites::{DemoSite, Sites},
};
use crate::{
    cli,
    site_client::{SiteClient, explain},
};

/// How long no record may arrive before the rest is given up, once the sources have ended.
const TAIL: Duration = Duration::from_secs(30);
/// How long the sources may take to write their first records.
const FIRST_RECORDS: Duration = Duration::from_secs(60);

impl World {
    /// Waits for the first record of each source: on a busy machine their start takes longer than
    /// they are to write.
    pub(super) async fn wait_until_written(&mut self) -> miette::Result<()> {
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
    pub(super) async fn watch(
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
        let mut to_kill: VecDeque<_> = args.kill.iter().filter_map(|it| sites.member(it)).collect();
        let kills = args.kill.len() as u64;
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
                    // The first halfway, the others at even intervals up to the end.
                    let killed = kills - to_kill.len() as u64;
                    let is_due = start.elapsed().as_secs() * 2 * kills >= args.seconds * (kills + killed);
                    if all_tried && is_due && let Some(site) = to_kill.pop_front() {
                        self.kill_and_restart(site, (sites, folder), tally).await?;
                    }
                }
            }
        }
        // The last one reports as the trying ends.
        while let Ok(attempt) = reports.try_recv() {
            self.tell(&mut attempts, attempt);
        }
        for site in to_kill {
            self.kill_and_restart(site, (sites, folder), tally).await?;
        }
        if kills > 0 {
            self.wait_until_linked(sites).await?;
        }
        Ok(attempts)
    }

    /// What the site has counted up to here goes into the tally: it starts from nothing. One that
    /// was killed before is back by then.
    async fn kill_and_restart(
        &mut self,
        site: &DemoSite,
        (sites, folder): (&Sites, &Path),
        tally: &mut Tally,
    ) -> miette::Result<()> {
        self.wait_until_linked(sites).await?;
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
        if let Some(process) = self.processes.get_mut(site.name) {
            process.kill().await;
            tally.killed.push(site.name);
        }
        sleep(Duration::from_secs(2)).await;
        self.start_site(site, folder)
    }

    /// Ends the sources, and waits for what they sent.
    pub(super) async fn collect_tail(
        &mut self,
        sites: &Sites,
        attempts: &[Attempt],
    ) -> miette::Result<Progress> {
        self.say("the sources have finished; waiting for the last records");
        let Some(pipeline) = &mut self.pipeline else {
            return Ok(Progress::default());
        };
        pipeline.stop_sources().await;
        let (mut deadline, mut delivered) = (Instant::now() + TAIL, 0);
        loop {
            let progress = match &self.pipeline {
                Some(pipeline) => pipeline.progress(),
                None => Progress::default(),
            };
            self.show(sites, Duration::MAX, attempts).await;
            if progress.delivered > delivered {
                (deadline, delivered) = (Instant::now() + TAIL, progress.delivered);
            }
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
        for (site, state) in sites.processes() {
            documents.push((site, SiteClient::new(state).status().await.ok()));
        }
        if let Some(view) = &mut self.view {
            view.show(&documents, progress, passed, attempts);
        }
    }
}
