//! A federation as people read it.

use std::{collections::BTreeMap, fmt::Write};

use renkei_spiffe::TrustDomain;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::output;

/// What is shown; programs get all of it (`--output json`).
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Seen {
    pub(crate) name: String,
    origin: String,
    identity: Option<String>,
    entries: u64,
    witnessed: u64,
    #[serde(with = "time::serde::rfc3339::option")]
    witnessed_at: Option<OffsetDateTime>,
    stale: bool,
    quorum: usize,
    witnesses: BTreeMap<TrustDomain, Option<String>>,
    refused: Vec<Refused>,
    refused_in_all: u64,
    pub(crate) members: Vec<Member>,
    #[serde(default)]
    mirrors: Vec<Mirror>,
    publishing: Option<Publishing>,
    witnessing: Option<String>,
    #[serde(default)]
    pub(crate) alarms: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Refused {
    entry: u64,
    kind: Option<String>,
    trust_domain: Option<TrustDomain>,
    reason: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Member {
    pub(crate) trust_domain: TrustDomain,
    identity: String,
    pub(crate) counts: bool,
    pub(crate) reason: Option<String>,
    sequence: Option<u64>,
    #[serde(with = "time::serde::rfc3339::option")]
    expires: Option<OffsetDateTime>,
    pub(crate) gateways: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Mirror {
    mirror: String,
    #[serde(with = "time::serde::rfc3339::option")]
    last_success: Option<OffsetDateTime>,
    fault: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Publishing {
    sequence: Option<u64>,
    witnessed: bool,
    fault: Option<String>,
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        self.head() + &self.members() + &self.witnesses() + &self.mirrors() + &self.refused()
    }

    fn head(&self) -> String {
        let mut text = format!("{} ({})\n", self.name, self.origin);
        let seen = match self.witnessed_at {
            Some(at) => format!(
                "witnesses have seen {} of them {}",
                self.witnessed,
                output::since(at)
            ),
            None => "no quorum of witnesses has seen any".to_owned(),
        };
        let old = self.stale && self.witnessed_at.is_some();
        let stale = if old { "; older than 24 h" } else { "" };
        let _ = writeln!(text, "{} entries; {seen}{stale}", self.entries);
        if let Some(identity) = &self.identity {
            let _ = writeln!(text, "this site is {identity}");
        }
        if let Some(said) = &self.publishing {
            let state = match (said.sequence, said.witnessed, &said.fault) {
                (_, _, Some(fault)) => format!("is not submitted: {fault}"),
                (Some(sequence), true, _) => format!("has the sequence {sequence}"),
                (Some(sequence), false, _) => {
                    format!("has the sequence {sequence} and waits for witnesses")
                }
                (None, ..) => "is not made yet".to_owned(),
            };
            let _ = writeln!(text, "its statement {state}");
        }
        if let Some(witnessing) = &self.witnessing {
            let _ = writeln!(text, "as a witness: {witnessing}");
        }
        for alarm in &self.alarms {
            let _ = writeln!(text, "ALARM: {alarm}");
        }
        text
    }

    fn members(&self) -> String {
        let mut table = output::table(&[
            "MEMBER", "VALID", "SEQUENCE", "EXPIRES", "GATEWAY", "IDENTITY", "REASON",
        ]);
        for member in &self.members {
            let short: String = member.identity.chars().take(12).collect();
            table.add_row([
                member.trust_domain.to_string(),
                if member.counts { "yes" } else { "no" }.to_owned(),
                member
                    .sequence
                    .map_or(String::new(), |sequence| sequence.to_string()),
                member.expires.map_or(String::new(), output::until),
                member.gateways.first().cloned().unwrap_or_default(),
                short,
                member.reason.clone().unwrap_or_default(),
            ]);
        }
        output::section("Members", &table)
    }

    fn witnesses(&self) -> String {
        let mut table = output::table(&["WITNESS", "HAS COSIGNED"]);
        for (name, at) in &self.witnesses {
            let at = at
                .clone()
                .unwrap_or_else(|| "not this checkpoint".to_owned());
            table.add_row([name.to_string(), at]);
        }
        output::section(
            &format!("Witnesses ({} make a quorum)", self.quorum),
            &table,
        )
    }

    fn mirrors(&self) -> String {
        let mut table = output::table(&["MIRROR", "READ", "FAULT"]);
        for mirror in &self.mirrors {
            table.add_row([
                mirror.mirror.clone(),
                mirror
                    .last_success
                    .map_or("never".to_owned(), output::since),
                mirror.fault.clone().unwrap_or_default(),
            ]);
        }
        output::section("Mirrors", &table)
    }

    fn refused(&self) -> String {
        let mut table = output::table(&["ENTRY", "CLAIMS TO BE", "ABOUT", "REASON"]);
        for refused in self.refused.iter().rev().take(10) {
            table.add_row([
                refused.entry.to_string(),
                refused.kind.clone().unwrap_or_default(),
                refused
                    .trust_domain
                    .as_ref()
                    .map_or(String::new(), ToString::to_string),
                refused.reason.clone(),
            ]);
        }
        let title = format!(
            "Refused entries ({} in all, the last ones)",
            self.refused_in_all
        );
        output::section(&title, &table)
    }
}
