//! Rows as tables for people, as a page under `docs/results`, and as JSON.

use std::{fmt::Write as _, path::Path};

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    chart::{self, number},
    error::BenchError,
    row::{Metric, Row},
};

const HEAD: [&str; 7] = [
    "case", "system", "metric", "median", "runs", "x direct", "x Envoy",
];

/// What a bench says about itself on its page.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// How it was measured.
    pub(crate) method: &'static str,
    /// The metrics that are drawn.
    pub(crate) drawn: &'static [Metric],
}

/// A table for the terminal.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(HEAD);
    for row in rows {
        table.add_row(cells(row));
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// Writes `NAME.md`, `NAME.svg` and `NAME.json` into `folder`.
pub(crate) fn write(folder: &Path, about: &About, rows: &[Row]) -> Result<(), BenchError> {
    std::fs::create_dir_all(folder).map_err(BenchError::file(folder))?;
    let put = |extension: &str, text: String| {
        let path = folder.join(format!("{}.{extension}", about.name));
        std::fs::write(&path, text).map_err(BenchError::file(&path))
    };
    put("md", page(about, rows))?;
    put("json", json(rows))?;
    put("svg", chart::bars(about.title, about.drawn, rows))
}

/// The rows as JSON.
pub(crate) fn json(rows: &[Row]) -> String {
    let lines: Vec<String> = rows
        .iter()
        .filter_map(|row| serde_json::to_string(row).ok())
        .collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

fn page(about: &About, rows: &[Row]) -> String {
    let name = about.name;
    let mut text = format!(
        "# {title}\n\n{method}\n\nRepeat it: `scripts/bench {name}`. Each value is the median of \
         the runs; ratios are of medians taken in the same, interleaved runs.\n\n{machine}\n\n\
         ![{title}]({name}.svg)\n\n",
        title = about.title,
        method = about.method,
        machine = machine(),
    );
    let _ = writeln!(text, "| {} |", HEAD.join(" | "));
    let _ = writeln!(text, "| --- | --- | --- | ---: | ---: | ---: | ---: |");
    for row in rows {
        let _ = writeln!(text, "| {} |", cells(row).join(" | "));
    }
    text
}

fn cells(row: &Row) -> [String; 7] {
    let ratio = |base: &str| {
        row.ratio
            .get(base)
            .map_or("-".to_owned(), |ratio| number(*ratio))
    };
    let least = row.runs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = row.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    [
        row.case.clone(),
        row.system.to_owned(),
        row.metric.to_owned(),
        format!("{} {}", number(row.value), row.unit),
        format!("{}: {} to {}", row.runs.len(), number(least), number(most)),
        ratio("direct"),
        ratio("envoy"),
    ]
}

/// One sentence about where it was measured.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "Measured with {cores} cores ({model}) shared by load, proxies and backend; Linux {}.",
        kernel.split('-').next().unwrap_or_default().trim()
    )
}
