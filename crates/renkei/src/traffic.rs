//! What passes between sites, and in what, in `renkei status`.

use renkei_spiffe::SpiffeId;
use serde::Deserialize;

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

/// `in` or `out`.
fn way(direction: &str) -> String {
    direction.trim_end_matches("bound").to_owned()
}

/// The sections of `renkei status`.
pub(crate) fn sections(proxy: &status::Proxy) -> String {
    flows(&proxy.totals) + &trunks(&proxy.trunks)
}

fn flows(totals: &[Total]) -> String {
    let mut table = output::table(&["WAY", "FROM", "TO", "OPEN", "SENT", "RECEIVED"]);
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
    let mut table = output::table(&["WAY", "FROM", "TO", "TRUNKS", "LANES"]);
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
