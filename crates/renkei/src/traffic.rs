//! What passes between sites, in what, and what is refused, in `renkei status`.

use renkei_api::status::{
    BackendStatus, Direction, Pair, ProxyStatus, RefusalRecord, TotalStatus, TrunkStatus,
};

use crate::output;

fn direction(pair: &Pair) -> &'static str {
    match pair.direction {
        Direction::Outbound => "out",
        Direction::Inbound => "in",
    }
}

/// The sections of `renkei status`.
pub(crate) fn sections(proxy: &ProxyStatus) -> String {
    backends(&proxy.backends) + &flows(&proxy.totals) + &trunks(&proxy.trunks) + &refusals(proxy)
}

fn flows(all: &[TotalStatus]) -> String {
    let mut table = output::table(&["DIRECTION", "FROM", "TO", "OPEN", "SENT", "RECEIVED"]);
    for TotalStatus { pair, totals } in all {
        table.add_row([
            direction(pair).to_owned(),
            pair.caller.short(),
            pair.callee.short(),
            format!("{} of {}", totals.open, totals.connections),
            output::bytes(totals.bytes_sent),
            output::bytes(totals.bytes_received),
        ]);
    }
    output::section("Flows", &table)
}

fn backends(all: &[BackendStatus]) -> String {
    let mut table = output::table(&["SERVICE", "BACKEND", "STATE", "CONNECTIONS", "FAILURES"]);
    for backend in all {
        table.add_row([
            backend.service.clone(),
            backend.address.clone(),
            state(backend),
            backend.connections.to_string(),
            backend.failures.to_string(),
        ]);
    }
    output::section("Backends", &table)
}

fn state(backend: &BackendStatus) -> String {
    if backend.up {
        return "up".to_owned();
    }
    let since = backend.down_since.map(output::since);
    let reason = backend.last_error.as_deref().unwrap_or_default();
    format!("down {}: {reason}", since.unwrap_or_default())
}

fn trunks(all: &[TrunkStatus]) -> String {
    let mut table = output::table(&["DIRECTION", "FROM", "TO", "TRUNKS", "LANES"]);
    for TrunkStatus { pair, count } in all {
        table.add_row([
            direction(pair).to_owned(),
            pair.caller.short(),
            pair.callee.short(),
            count.trunks.to_string(),
            count.lanes.to_string(),
        ]);
    }
    output::section("Trunks", &table)
}

fn refusals(proxy: &ProxyStatus) -> String {
    if proxy.refusals.is_empty() {
        return String::new();
    }
    let line = |refusal: &RefusalRecord| {
        output::paragraph(&format!(
            " {}, {}, {} to {}: {}",
            output::since(refusal.time),
            refusal.direction.label(),
            refusal.peer,
            refusal.service,
            refusal.sentence
        ))
    };
    let lines: String = proxy.refusals.iter().take(10).map(line).collect();
    let in_all = proxy.refused_in_all();
    format!("\nRefusals ({in_all} in all, the last ones)\n{lines}")
}
