//! The live view: a line per site and per flow, progress, and the intruders so far. On a terminal
//! it is drawn in place; elsewhere a line is printed every five seconds. All of it goes to
//! standard error: standard output carries the result alone.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use comfy_table::Cell;
use crossterm::{
    cursor, queue,
    style::Stylize,
    terminal::{Clear, ClearType},
};

use super::{intruders::Attempt, pipeline::Progress, report::intruder_table};
use crate::{cli::Output, output, status::Document};

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

    /// A step, told in a line.
    pub(super) fn say(&mut self, text: &str) {
        if !self.silent {
            self.clear();
            let _ = writeln!(std::io::stderr(), "{}", text.dim());
        }
    }

    /// The state of everything.
    pub(super) fn show(
        &mut self,
        sites: &[(&'static str, Option<Document>)],
        progress: Progress,
        passed: Duration,
        attempts: &[Attempt],
    ) {
        if self.silent {
            return;
        }
        let bar = self.progress_line(progress, passed);
        if !self.live {
            let due = self
                .last_line
                .is_none_or(|last| last.elapsed() > Duration::from_secs(5));
            if due {
                self.last_line = Some(Instant::now());
                let _ = writeln!(std::io::stderr(), "{bar}");
            }
            return;
        }
        let text = format!(
            "{bar}\n{}{}{}",
            site_table(sites),
            flow_table(sites),
            intruder_table(attempts)
        );
        self.draw(&text);
    }

    /// Takes what was drawn off the screen.
    pub(super) fn clear(&mut self) {
        if self.live && self.drawn > 0 {
            let mut out = std::io::stderr();
            let _ = queue!(
                out,
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

    fn progress_line(&self, progress: Progress, passed: Duration) -> String {
        let passed = passed.as_secs().min(self.seconds);
        let share = (passed as f64 / self.seconds.max(1) as f64).clamp(0.0, 1.0);
        let full = (share * BAR as f64) as usize;
        format!(
            "{}{} {passed:>3}/{} s   sent {}   forwarded {}   delivered {}   corrupted {}",
            "━".repeat(full),
            "╌".repeat(BAR - full),
            self.seconds,
            progress.sent(),
            progress.forwarded,
            progress.delivered,
            progress.corrupted,
        )
    }
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

fn site_table(sites: &[(&'static str, Option<Document>)]) -> String {
    let mut table = output::table(&["SITE", "IDENTITY", "EXPIRES", "RENEWED", "REFUSED"]);
    for (name, document) in sites {
        let Some(document) = document else {
            table.add_row([
                name.to_string(),
                "not running".into(),
                String::new(),
                String::new(),
                String::new(),
            ]);
            continue;
        };
        for identity in document.identities() {
            table.add_row(vec![
                Cell::new(name),
                Cell::new(identity.id.short()),
                Cell::new(identity.not_after.map_or("none yet".into(), output::until)),
                Cell::new(identity.renewals),
                Cell::new(document.refused_in_all()),
            ]);
        }
    }
    output::section("Sites", &table)
}

fn flow_table(sites: &[(&'static str, Option<Document>)]) -> String {
    let mut table = output::table(&["AT", "FROM", "TO", "OPEN", "SENT", "RECEIVED"]);
    for (name, document) in sites {
        let Some(document) = document else { continue };
        for total in &document.proxy.totals {
            table.add_row(vec![
                Cell::new(name),
                Cell::new(total.caller.short()),
                Cell::new(total.callee.short()),
                Cell::new(total.open),
                Cell::new(output::bytes(total.bytes_sent)),
                Cell::new(output::bytes(total.bytes_received)),
            ]);
        }
    }
    output::section("Flows", &table)
}

#[cfg(test)]
mod tests {
    use super::*;

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
