//! A federation as people read it.

use std::fmt::Write;

use renkei_api::status::{FederationStatus, LogStatus, MemberStatus, MirrorStatus};

use crate::output;

pub(super) fn text(seen: &FederationStatus) -> String {
    let log = &seen.log;
    head(seen) + &members(&seen.members) + &witnesses(log) + &mirrors(&seen.mirrors) + &refused(log)
}

fn head(federation: &FederationStatus) -> String {
    let log = &federation.log;
    let mut text = format!("{} ({})\n", federation.name, federation.origin);
    let seen = match log.witnessed_at {
        Some(at) => format!(
            "witnesses have seen {} of them {}",
            log.witnessed,
            output::since(at)
        ),
        None => "no quorum of witnesses has seen any".to_owned(),
    };
    let old = log.stale && log.witnessed_at.is_some();
    let stale = if old { "; older than 24 h" } else { "" };
    let _ = writeln!(text, "{} entries; {seen}{stale}", log.entries);
    if let Some(identity) = &federation.identity {
        let _ = writeln!(text, "this site is {identity}");
    }
    if let Some(said) = &federation.publishing {
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
    if let Some(witnessing) = &federation.witnessing {
        let _ = writeln!(text, "as a witness: {witnessing}");
    }
    for alarm in &federation.alarms {
        let _ = writeln!(text, "ALARM: {alarm}");
    }
    text
}

fn members(all: &[MemberStatus]) -> String {
    let mut table = output::table(&[
        "MEMBER", "VALID", "SEQUENCE", "EXPIRES", "GATEWAY", "IDENTITY", "REASON",
    ]);
    for member in all {
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

fn witnesses(log: &LogStatus) -> String {
    let mut table = output::table(&["WITNESS", "HAS COSIGNED"]);
    for (name, at) in &log.witnesses {
        let at = at
            .clone()
            .unwrap_or_else(|| "not this checkpoint".to_owned());
        table.add_row([name.to_string(), at]);
    }
    output::section(&format!("Witnesses ({} make a quorum)", log.quorum), &table)
}

fn mirrors(all: &[MirrorStatus]) -> String {
    let mut table = output::table(&["MIRROR", "READ", "FAULT"]);
    for mirror in all {
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

fn refused(log: &LogStatus) -> String {
    let mut table = output::table(&["ENTRY", "CLAIMS TO BE", "ABOUT", "REASON"]);
    for refused in log.refused.iter().rev().take(10) {
        table.add_row([
            refused.entry.to_string(),
            refused.kind.as_deref().unwrap_or_default().to_owned(),
            refused
                .trust_domain
                .as_ref()
                .map_or(String::new(), ToString::to_string),
            refused.reason.clone(),
        ]);
    }
    let title = format!(
        "Refused entries ({} in all, the last ones)",
        log.refused_in_all
    );
    output::section(&title, &table)
}
