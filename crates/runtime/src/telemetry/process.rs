//! The process itself as metrics, under the names that Prometheus clients have agreed on.

#![cfg_attr(
    not(test),
    expect(clippy::disallowed_methods, reason = "the kernel answers at once")
)]

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};
use rustix::{
    param::{clock_ticks_per_second, page_size},
    process::{Resource, getrlimit},
};

/// Reads `/proc` on each scrape.
#[derive(Debug)]
pub(super) struct Process;

/// The fields of `/proc/self/stat` that matter, in the units of that file.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    /// See proc_pid_stat(5). The name of the program, in parentheses, may hold anything.
    fn parse(text: &str) -> Option<Self> {
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // The state, field 3 of the manual, is the first here.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.checked_add(field(15)?)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }

    fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/self/stat").ok()?)
    }
}

/// Seconds since 1970 at which the system started.
fn boot_time() -> Option<u64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn open_descriptors() -> Option<u64> {
    // Reading the folder opens it: one of the entries is the reading itself.
    let entries = u64::try_from(fs::read_dir("/proc/self/fd").ok()?.count()).ok()?;
    Some(entries.saturating_sub(1))
}

#[expect(clippy::cast_precision_loss, reason = "ticks are far below 2^52")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / clock_ticks_per_second().max(1) as f64
}

impl Collector for Process {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let lost = ConstCounter::new(super::writer::dropped());
        metric(
            &mut out,
            "renkei_log_lines_dropped",
            "Lines of the log that could not be written, or found no room to wait.",
            &lost,
        )?;
        let left_out = ConstCounter::new(super::line_limit::left_out());
        metric(
            &mut out,
            "renkei_log_lines_left_out",
            "Lines of the log that were left out, because there were many of their kind.",
            &left_out,
        )?;
        if let Some(open) = open_descriptors() {
            gauge(&mut out, "process_open_fds", "Open file descriptors.", open)?;
        }
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            gauge(
                &mut out,
                "process_max_fds",
                "Most file descriptors that may be open.",
                limit,
            )?;
        }
        let Some(stat) = Stat::read() else {
            return Ok(());
        };
        let resident = stat.resident_pages.saturating_mul(page_size() as u64);
        gauge(
            &mut out,
            "process_resident_memory_bytes",
            "Resident memory in bytes.",
            resident,
        )?;
        let virtual_bytes = stat.virtual_bytes;
        gauge(
            &mut out,
            "process_virtual_memory_bytes",
            "Virtual memory in bytes.",
            virtual_bytes,
        )?;
        if let Some(boot) = boot_time() {
            #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
            let start = ConstGauge::new(boot as f64 + seconds(stat.start_ticks));
            let help = "Start of the process in seconds since 1970.";
            metric(&mut out, "process_start_time_seconds", help, &start)?;
        }
        let cpu = ConstCounter::new(seconds(stat.cpu_ticks));
        metric(
            &mut out,
            "process_cpu_seconds",
            "Processor time of user and system in seconds.",
            &cpu,
        )
    }
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    metric(out, name, help, &ConstGauge::new(value))
}

fn metric(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: &impl EncodeMetric,
) -> fmt::Result {
    value.encode(out.encode_descriptor(name, help, None, value.metric_type())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn a_program_name_with_parentheses_and_spaces_moves_no_field() {
        let text = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 11 22 0 0 20 0 5 0 4242 8192 3 99";
        let stat = Stat::parse(text).unwrap();
        let expected = Stat {
            cpu_ticks: 33,
            start_ticks: 4242,
            virtual_bytes: 8192,
            resident_pages: 3,
        };
        assert_eq!(stat, expected);
        for bad in [
            "",
            "7 (a",
            "7 (a) S",
            "7 (a) S x x x x x x x x x x x x x x x x x x x x x x",
        ] {
            assert_eq!(Stat::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_process_is_measured() {
        let text = Metrics::new("0").encode().unwrap();
        let value = |name: &str| -> f64 {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
                .parse()
                .unwrap()
        };
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_cpu_seconds_total") >= 0.0);
        let now = time::OffsetDateTime::now_utc().unix_timestamp() as f64;
        let age = now - value("process_start_time_seconds");
        assert!((-5.0..86_400.0).contains(&age), "started {age} s ago");
    }
}
