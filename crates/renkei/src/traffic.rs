//! What passes between sites, in what, and what is refused, in `renkei status`.

use renkei_spiffe::SpiffeId;
use serde::Deserialize;
use time::OffsetDateTime;

use crate::{output, status};

/// What a pair of identities has exchanged.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Total {
    pub(crate) direction: String,
    pub(crate) caller: SpiffeId,
    pub(crate) callee: SpiffeId,
    pub(crate) open: u64,
    pub(crate) connections: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

/// The trunks that a pair has now.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Trunks {
    direction: String,
    caller: SpiffeId,
    callee: SpiffeId,
    trunks: usize,
    lanes: usize,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Refusal {
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) time: OffsetDateTime,
    pub(crate) direction: String,
    pub(crate) service: String,
    pub(crate) peer: String,
    pub(crate) reason: String,
    pub(crate) sentence: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct RefusalCount {
    pub(crate) reason: String,
    pub(crate) count: u64,
}

/// `in` or `out`.
fn way(direction: &str) -> String {
    direction.trim_end_matches("bound").to_owned()
}

/// The sections of `renkei status`.
pub(crate) fn sections(proxy: &status::Proxy) -> String {
    flows(&proxy.totals) + &trunks(&proxy.trunks) + &refusals(proxy)
}

fn flows(totals: &[Total]) -> String {
    let mut table = output::table(&["DIRECTION", "FROM", "TO", "OPEN", "SENT", "RECEIVED"]);
    for total in totals {
        table.add_row([
            way(&total.direction),
            total.caller.short(),
            total.callee.short(),
            format!("{} of {}", total.open, total.connections),
            output::bytes(total.bytes_sent),
            output::bytes(total.bytes_received),
        ]);
    }
    output::section("Flows", &table)
}

fn trunks(all: &[Trunks]) -> String {
    let mut table = output::table(&["DIRECTION", "FROM", "TO", "TRUNKS", "LANES"]);
    for pair in all {
        table.add_row([
            way(&pair.direction),
            pair.caller.short(),
            pair.callee.short(),
            pair.trunks.to_string(),
            pair.lanes.to_string(),
        ]);
    }
    output::section("Trunks", &table)
}

/// All refusals.
pub(crate) fn in_all(counts: &[RefusalCount]) -> u64 {
    counts.iter().map(|count| count.count).sum()
}

fn refusals(proxy: &status::Proxy) -> String {
    if proxy.refusals.is_empty() {
        return String::new();
    }
    let line = |refusal: &Refusal| {
        output::paragraph(&format!(
            " {}, {}, {} to {}: {}",
            output::since(refusal.time),
            refusal.direction,
            refusal.peer,
            refusal.service,
            refusal.sentence
        ))
    };
    let lines: String = proxy.refusals.iter().take(10).map(line).collect();
    let in_all = in_all(&proxy.refused);
    format!("\nRefusals ({in_all} in all, the last ones)\n{lines}")
}
