//! Printing: tables that fit the terminal for people, JSON for programs.

use std::{
    io::{self, IsTerminal, Write},
    sync::OnceLock,
};

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets::NOTHING};
use renkei_runtime::telemetry;
use serde::Serialize;
use time::OffsetDateTime;

/// Why what was printed is not all there.
static FAILURE: OnceLock<String> = OnceLock::new();

/// Prints to standard output. A reader that has gone away (`renkei status | head`) is not a fault;
/// any other failure is one of the whole command ([`failure`]).
pub(crate) fn print(text: &str) {
    let mut out = io::stdout().lock();
    printed(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
}

/// Takes note of how printing went.
pub(crate) fn printed(result: io::Result<()>) {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = FAILURE.set(format!("the output could not be written: {error}"));
        }
        _ => {}
    }
}

/// Why the output of this command is incomplete, if it is.
pub(crate) fn failure() -> Option<String> {
    FAILURE.get().cloned()
}

/// Shows people something that is not the result, on standard error: behind the lines of the log, where
/// there is one, so that a reader who is slow holds nothing up.
pub(crate) fn note(text: &str) {
    if !telemetry::say(text) {
        let _ = writeln!(io::stderr(), "{text}");
    }
}

/// Prints a value as JSON, with a line end.
pub(crate) fn print_json(value: &impl Serialize) -> miette::Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| miette::miette!("the result cannot be written as JSON: {error}"))?;
    print(&format!("{text}\n"));
    Ok(())
}

/// A table without rules, as wide as the terminal allows.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    if !io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(
        header
            .iter()
            .map(|name| Cell::new(name).add_attribute(Attribute::Dim)),
    );
    table
}

/// A paragraph as wide as the terminal allows, its later lines set in.
pub(crate) fn paragraph(text: &str) -> String {
    let width = match crossterm::terminal::size() {
        Ok((width, _)) if io::stdout().is_terminal() => usize::from(width),
        _ => usize::MAX,
    };
    let form = textwrap::Options::new(width)
        .subsequent_indent("  ")
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(text, form) + "\n"
}

/// A heading and the table under it; nothing at all when the table is empty.
pub(crate) fn section(title: &str, table: &Table) -> String {
    if table.is_empty() {
        return String::new();
    }
    format!("\n{title}\n{}\n", table.trim_fmt())
}

/// Bytes as people read them: `1.4 MB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1_000.0 {
            break;
        }
        value /= 1_000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// The time until `end`: `59m 12s`, or `ended`.
pub(crate) fn until(end: OffsetDateTime) -> String {
    let left = (end - OffsetDateTime::now_utc()).whole_seconds();
    if left <= 0 {
        "ended".to_owned()
    } else {
        format!("in {}", span(left.unsigned_abs()))
    }
}

/// The time since `start`: `12s ago`.
pub(crate) fn since(start: OffsetDateTime) -> String {
    let passed = (OffsetDateTime::now_utc() - start).whole_seconds().max(0);
    format!("{} ago", span(passed.unsigned_abs()))
}

/// Seconds in the two largest units.
pub(crate) fn span(seconds: u64) -> String {
    match (
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        seconds % 60,
    ) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, _, _) => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_say_them() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_400_000), "1.4 MB");
        assert_eq!(span(59), "59s");
        assert_eq!(span(3_599), "59m 59s");
        assert_eq!(span(90_000), "1d 1h");
    }

    #[test]
    fn an_empty_table_takes_no_room() {
        assert_eq!(section("peers", &table(&["a"])), "");
    }
}
