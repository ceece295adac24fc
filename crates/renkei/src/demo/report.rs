//! The result of the demo: one JSON object for programs, a summary for people.

use std::{collections::BTreeMap, fmt::Write};

use renkei_api::status::{Direction, SiteStatus};
use renkei_spiffe::SpiffeId;
use serde::Serialize;

use super::{
    intruders::{Attempt, INTRUDERS, Verdict},
    pipeline::Progress,
};
use crate::output;

/// Lines of configuration of the 2021 study, Table 3, all four sites.
const PAPER_LINES: usize = 998;

/// A machine of Hokkaido.
#[derive(Debug, Clone, Serialize)]
pub(super) struct NodeReport {
    pub(super) name: String,
    pub(super) role: &'static str,
    /// The services and workloads whose identities it has, by their names in the site file.
    pub(super) runs: Vec<String>,
}

impl NodeReport {
    /// What its own status says.
    pub(super) fn new(role: &'static str, status: &SiteStatus) -> Self {
        let runs = status.identities().map(|svid| {
            let path = svid.id.path();
            path.strip_prefix('/').unwrap_or(path).to_owned()
        });
        Self {
            name: status.site.clone(),
            role,
            runs: runs.collect(),
        }
    }
}

/// What `--output json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) ok: bool,
    pub(super) sites: usize,
    pub(super) seconds: u64,
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) corrupted: u64,
    /// Times a client program had to send a record again; each may repeat it once.
    pub(super) retried: u64,
    pub(super) refused: BTreeMap<&'static str, u64>,
    pub(super) renewals: u64,
    /// The fewest renewals that any one SVID of the pipeline saw.
    pub(super) renewals_of_each: u64,
    /// Bytes that crossed from one site to another towards the brokers.
    pub(super) carried_bytes: u64,
    pub(super) config_lines: usize,
    /// The sites that were killed and started again.
    pub(super) killed: Vec<&'static str>,
    /// The machines of Hokkaido.
    pub(super) nodes: Vec<NodeReport>,
    pub(super) attempts: Vec<Attempt>,
}

impl Report {
    pub(super) fn new(
        progress: Progress,
        attempts: Vec<Attempt>,
        (tally, nodes): (&Tally, Vec<NodeReport>),
        seconds: u64,
        config_lines: usize,
    ) -> Self {
        let sent = progress.sent();
        let mut report = Self {
            ok: false,
            sites: 4,
            seconds,
            sent,
            delivered: progress.delivered,
            lost: sent.saturating_sub(progress.delivered),
            repeated: progress.repeated,
            corrupted: progress.corrupted,
            retried: progress.retried,
            refused: attempts.iter().map(|a| (a.intruder, a.refused)).collect(),
            renewals: tally.renewals.values().sum(),
            renewals_of_each: tally.renewals.values().copied().min().unwrap_or(0),
            carried_bytes: tally.carried,
            config_lines,
            killed: tally.killed.clone(),
            nodes,
            attempts,
        };
        report.ok = report.faults().is_empty();
        report
    }

    /// What did not hold, a sentence each.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut unless = |passed: bool, fault: String| {
            if !passed {
                faults.push(fault);
            }
        };
        unless(self.sent > 0, "no record was sent".into());
        unless(self.lost == 0, format!("{} records were lost", self.lost));
        unless(
            self.corrupted == 0,
            format!("{} records were corrupted", self.corrupted),
        );
        unless(
            self.repeated <= self.retried,
            format!(
                "{} records came twice, of which the clients account for {}",
                self.repeated, self.retried
            ),
        );
        unless(
            // Each record crosses twice, with its SHA-256 in hexadecimal digits.
            self.carried_bytes > self.sent * 2 * 64,
            "records went around the mesh, not through it".into(),
        );
        unless(
            self.renewals_of_each >= 2,
            "an SVID was renewed less than twice".into(),
        );
        unless(
            self.config_lines <= 40,
            format!("{} lines of configuration", self.config_lines),
        );
        unless(
            self.attempts.len() == INTRUDERS,
            format!(
                "only {} of {INTRUDERS} intruders tried",
                self.attempts.len()
            ),
        );
        for attempt in &self.attempts {
            unless(
                attempt.verdict() != Verdict::NotRefused,
                format!(
                    "{} was not refused as {} at {}",
                    attempt.title, attempt.reason, attempt.site
                ),
            );
        }
        faults
    }

    /// The summary for people.
    pub(super) fn summary(&self) -> String {
        let mut text = String::new();
        for attempt in &self.attempts {
            text.push_str(&output::paragraph(&attempt.in_a_line()));
        }
        let _ = writeln!(text, "\n{}", self.node_table().trim_fmt());
        let _ = write!(
            text,
            "\n\
             records    {} sent, {} delivered and checked by number and SHA-256;\n           \
             {} lost, {} corrupted, {} repeated\n\
             carried    {} between the sites towards the brokers\n\
             identities {} renewals of SVIDs during the run, at least {} of each\n\
             files      {} lines in the four site files (the 2021 study: {PAPER_LINES})\n",
            self.sent,
            self.delivered,
            self.lost,
            self.corrupted,
            self.repeated,
            output::bytes(self.carried_bytes),
            self.renewals,
            self.renewals_of_each,
            self.config_lines,
        );
        match self.faults().as_slice() {
            [] => text.push_str("\nPASS: all records arrived, all intruders were refused.\n"),
            faults => {
                for fault in faults {
                    text.push_str(&format!("\nFAIL: {fault}."));
                }
                text.push('\n');
            }
        }
        text
    }
}

impl Report {
    fn node_table(&self) -> comfy_table::Table {
        let mut table = output::table(&["HOKKAIDO", "ROLE", "RUNS"]);
        for node in &self.nodes {
            let runs = node.runs.join(", ");
            table.add_row([&*node.name, node.role, &*runs]);
        }
        table
    }
}

/// What sites counted, over the restarts of a site too.
#[derive(Debug, Default)]
pub(super) struct Tally {
    renewals: BTreeMap<SpiffeId, u64>,
    carried: u64,
    /// The sites that were killed.
    pub(super) killed: Vec<&'static str>,
}

impl Tally {
    /// Adds what one site has counted since it started.
    pub(super) fn add(&mut self, status: &SiteStatus) {
        for identity in status.identities() {
            *self.renewals.entry(identity.id.clone()).or_default() += identity.renewals;
        }
        let inbound = status
            .proxy
            .totals
            .iter()
            .filter(|total| total.pair.direction == Direction::Inbound)
            .filter(|total| total.pair.caller.trust_domain() != total.pair.callee.trust_domain());
        self.carried += inbound
            .map(|total| total.totals.bytes_received)
            .sum::<u64>();
    }
}
