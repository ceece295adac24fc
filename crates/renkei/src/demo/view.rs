//! The live view: a line per site and per flow, progress, and the intruders so far. On a terminal
//! it is drawn in place; elsewhere a line is printed every five seconds. All of it goes to
//! standard error: standard output carries the result alone.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use comfy_table::{Cell, Color, Table};
use crossterm::{
    cursor, queue,
    style::Stylize,
    terminal::{Clear, ClearType},
};
use renkei_api::status::{Direction, SiteStatus, TotalStatus};

use super::{
    intruders::{Attempt, Verdict},
    pipeline::Progress,
};
use crate::{arguments::Output, output};

const BAR: usize = 30;

/// What is drawn, and where.
pub(super) struct View {
    live: bool,
    silent: bool,
    seconds: u64,
    drawn: u16,
    last_line: Option<Instant>,
}

impl View {
    pub(super) fn new(form: Output, seconds: u64) -> Self {
        let live = std::io::stderr().is_terminal();
        Self {
            live,
            silent: form == Output::Json && !live,
            seconds,
            drawn: 0,
            last_line: None,
        }
    }

    /// A step, shown in one line.
    pub(super) fn say(&mut self, text: &str) {
        if self.silent {
            return;
        }
        self.clear();
        let _ = match self.live {
            true => writeln!(std::io::stderr(), "{}", text.dim()),
            false => writeln!(std::io::stderr(), "{text}"),
        };
    }

    /// What became of an intruder. On a terminal the table shows it.
    pub(super) fn tell(&mut self, attempt: &Attempt) {
        if !self.live {
            self.say(&attempt.in_a_line());
        }
    }

    /// The state of everything.
    pub(super) fn show(
        &mut self,
        sites: &[(&'static str, Option<SiteStatus>)],
        progress: Progress,
        passed: Duration,
        attempts: &[Attempt],
    ) {
        if self.silent {
            return;
        }
        let bar = progress_lines(progress, passed.as_secs(), self.seconds);
        if self.live {
            let tables = [
                site_table(sites),
                flow_table(sites, progress),
                attempt_table(attempts),
            ];
            self.draw(&frame(bar, &tables));
        } else if self
            .last_line
            .is_none_or(|last| last.elapsed() > Duration::from_secs(5))
        {
            self.last_line = Some(Instant::now());
            self.say(&bar.replace('\n', "  "));
        }
    }

    /// Takes what was drawn off the screen.
    pub(super) fn clear(&mut self) {
        if self.live && self.drawn > 0 {
            let mut out = std::io::stderr();
            let _ = queue!(
                out,
                cursor::MoveToColumn(0),
                cursor::MoveUp(self.drawn),
                Clear(ClearType::FromCursorDown)
            );
            let _ = out.flush();
        }
        self.drawn = 0;
    }

    fn draw(&mut self, text: &str) {
        let (width, height) = crossterm::terminal::size().unwrap_or((100, 40));
        self.clear();
        let lines: Vec<String> = text
            .lines()
            .take(usize::from(height.saturating_sub(1)))
            .map(|line| fit(line, usize::from(width)))
            .collect();
        let mut out = std::io::stderr();
        let _ = out.write_all((lines.join("\n") + "\n").as_bytes());
        let _ = out.flush();
        self.drawn = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    }
}

/// All of it, a block under the other. At most 80 columns and 23 lines: the smallest terminal.
fn frame(bar: String, tables: &[Table]) -> String {
    let full = tables.iter().filter(|table| !table.is_empty());
    let blocks = std::iter::once(bar).chain(full.map(Table::trim_fmt));
    blocks.collect::<Vec<_>>().join("\n\n")
}

/// Two lines: how much of the time has passed, and how far the records have come.
fn progress_lines(progress: Progress, passed: u64, seconds: u64) -> String {
    let passed = passed.min(seconds);
    let share = (passed as f64 / seconds.max(1) as f64).clamp(0.0, 1.0);
    let full = (share * BAR as f64) as usize;
    format!(
        "{}{} {passed}/{seconds} s\nsent {}   forwarded {}   delivered {}   corrupted {}",
        "━".repeat(full),
        "╌".repeat(BAR - full),
        progress.sent(),
        progress.forwarded,
        progress.delivered,
        progress.corrupted,
    )
}

/// Cuts a line to the width of the terminal: a wrapped line would spoil the drawing in place.
/// Colour sequences take no room.
fn fit(line: &str, width: usize) -> String {
    let mut out = String::new();
    let mut room = width;
    let mut escape = false;
    for c in line.chars() {
        match (escape, c) {
            (true, _) => escape = c != 'm',
            (false, '\u{1b}') => escape = true,
            (false, _) if room == 0 => continue,
            (false, _) => room -= 1,
        }
        out.push(c);
    }
    out
}

/// A line per identity; what the site as a whole refused is in its first. The
/// processes of a site follow each other.
fn site_table(processes: &[(&'static str, Option<SiteStatus>)]) -> Table {
    let mut table = output::table(&["SITE", "IDENTITY", "EXPIRES", "RENEWED", "REFUSED"]);
    for site in processes.chunk_by(|(one, _), (next, _)| one == next) {
        let documents = || site.iter().filter_map(|(_, document)| document.as_ref());
        let refused: u64 = documents().map(|one| one.proxy.refused_in_all()).sum();
        let name = site.first().map_or("", |(name, _)| *name);
        if documents().count() < site.len() {
            table.add_row([name, "not running", "", "", ""]);
        }
        let mut of_site = Some((name, refused.to_string()));
        for identity in documents().flat_map(SiteStatus::identities) {
            let (name, refused) = of_site.take().unwrap_or_default();
            table.add_row(vec![
                Cell::new(name),
                Cell::new(identity.id.short()),
                Cell::new(identity.not_after.map_or("none yet".into(), output::until)),
                Cell::new(identity.renewals),
                Cell::new(refused),
            ]);
        }
    }
    table
}

/// A line per flow, as its caller's site counts it; the other end counts the same.
fn flow_table(sites: &[(&'static str, Option<SiteStatus>)], progress: Progress) -> Table {
    let mut table = output::table(&["FROM", "TO", "OPEN", "BYTES", "RECORDS"]);
    for (name, document) in sites {
        let Some(document) = document else { continue };
        let records = match *name {
            "osaka" => progress.osaka,
            "kyushu" => progress.kyushu,
            _ => progress.forwarded,
        };
        let totals = document.proxy.totals.iter();
        let outbound = totals.filter(|total| total.pair.direction == Direction::Outbound);
        for TotalStatus { pair, totals } in outbound {
            table.add_row(vec![
                Cell::new(pair.caller.short()),
                Cell::new(pair.callee.short()),
                Cell::new(totals.open),
                Cell::new(output::bytes(totals.bytes_sent + totals.bytes_received)),
                Cell::new(records),
            ]);
        }
    }
    table
}

/// A line per intruder. The sites' own sentences are long and follow in the summary.
fn attempt_table(attempts: &[Attempt]) -> Table {
    let mut table = output::table(&["INTRUDER", "SITE", "REFUSED AS"]);
    for attempt in attempts {
        let (word, colour) = match attempt.verdict() {
            Verdict::Refused => (attempt.reason, Color::Green),
            Verdict::NotTried => ("not tried", Color::Yellow),
            Verdict::NotRefused => ("NOT REFUSED", Color::Red),
        };
        table.add_row([
            Cell::new(attempt.title),
            Cell::new(attempt.site),
            Cell::new(word).fg(colour),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the status of a site says, as far as the view shows it.
    fn document(name: &str, ids: &[&str], flow: Option<(&str, &str)>) -> SiteStatus {
        let end = time::OffsetDateTime::now_utc() + time::Duration::seconds(14);
        let format = &time::format_description::well_known::Rfc3339;
        let end = end.format(format).expect("time");
        let svid = |id: &&str| {
            let id = format!("spiffe://{name}.example/{id}");
            serde_json::json!({"id": id, "serial": null, "not_after": end, "renewals": 12, "last_error": null})
        };
        let total = |(from, to): (&str, &str)| {
            serde_json::json!({
                "direction": "outbound", "open": 100, "connections": 1,
                "caller": format!("spiffe://{from}"), "callee": format!("spiffe://{to}"),
                "bytes_sent": 999_900_000, "bytes_received": 90_000,
            })
        };
        serde_json::from_value(serde_json::json!({
            "site": name, "trust_domain": format!("{name}.example"), "version": "0",
            "ready": true, "conditions": {},
            "proxy": {
                "listeners": [], "refusals": [], "gateway": null, "hub": null, "relays": [],
                "totals": flow.map(total).into_iter().collect::<Vec<_>>(),
                "refused": [{"direction": "inbound", "service": "broker", "reason": "not_allowed", "count": 3}],
            },
            "agent": {"socket": "/s", "svids": ids.iter().map(svid).collect::<Vec<_>>()},
        }))
        .expect("status")
    }

    #[test]
    fn everything_has_room_on_the_smallest_terminal() {
        let broker = "hokkaido.example/broker";
        let forwarder = "hokkaido.example/forwarder";
        let sites = [
            document("hokkaido", &[], None),
            document("hokkaido", &["broker"], Some((forwarder, broker))),
            document(
                "hokkaido",
                &["forwarder"],
                Some((forwarder, "tokyo.example/mdx")),
            ),
            document("tokyo", &["mdx"], None),
            document(
                "osaka",
                &["collector"],
                Some(("osaka.example/collector", broker)),
            ),
            document(
                "kyushu",
                &["collector"],
                Some(("kyushu.example/collector", broker)),
            ),
        ];
        let names = [
            "hokkaido", "hokkaido", "hokkaido", "tokyo", "osaka", "kyushu",
        ];
        let sites: Vec<_> = names.into_iter().zip(sites.map(Some)).collect();
        let attempts = Attempt::examples();
        assert_eq!(attempts.len(), super::super::intruders::INTRUDERS);
        let progress = Progress {
            osaka: 1_000_000,
            kyushu: 1_000_000,
            forwarded: 2_000_000,
            delivered: 2_000_000,
            ..Progress::default()
        };
        let tables = [
            site_table(&sites),
            flow_table(&sites, progress),
            attempt_table(&attempts),
        ];
        let frame = frame(progress_lines(progress, 43_200, 86_400), &tables);
        assert!(frame.lines().count() <= 23, "{frame}");
        for line in frame.lines() {
            assert!(fit(line, 79) == line, "too long: {line}");
        }
        for part in [
            "1000.0 MB",
            "another local user",
            "unknown_trust_domain",
            "2000000",
        ] {
            assert!(frame.contains(part), "no {part:?} in\n{frame}");
        }
    }

    #[test]
    fn a_long_line_is_cut_by_what_shows() {
        assert_eq!(fit("abcdef", 3), "abc");
        assert_eq!(
            fit("\u{1b}[32mabc\u{1b}[0mdef", 4),
            "\u{1b}[32mabc\u{1b}[0md"
        );
        assert_eq!(fit("北海道", 2), "北海");
    }
}
