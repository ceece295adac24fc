//! What passes between sites, in what, and what is refused, in `renkei status`.

use renkei_api::status::{
    BackendStatus, Direction, OtherTotalStatus, ProxyStatus, RefusalRecord, TotalStatus, Totals,
    TrunkStatus,
};

use crate::output;

/// The row of all identities that have none of their own.
const OTHERS: &str = "(others)";

fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "out",
        Direction::Inbound => "in",
    }
}

/// The sections of `renkei status`.
pub(crate) fn sections(proxy: &ProxyStatus) -> String {
    backends(&proxy.backends)
        + &flows(&proxy.totals, &proxy.other_totals)
        + &trunks(&proxy.trunks)
        + &refusals(proxy)
}

fn flows(all: &[TotalStatus], others: &[OtherTotalStatus]) -> String {
    let mut table = output::table(&["DIRECTION", "FROM", "TO", "OPEN", "SENT", "RECEIVED"]);
    let mut add = |way, from, to, totals: &Totals| {
        table.add_row([
            direction(way).to_owned(),
            from,
            to,
            format!("{} of {}", totals.open, totals.connections),
            output::bytes(totals.bytes_sent),
            output::bytes(totals.bytes_received),
        ]);
    };
    for TotalStatus { pair, totals } in all {
        add(
            pair.direction,
            pair.caller.short(),
            pair.callee.short(),
            totals,
        );
    }
    for other in others {
        let (own, others) = (other.own.short(), OTHERS.to_owned());
        let (from, to) = match other.direction {
            Direction::Inbound => (others, own),
            Direction::Outbound => (own, others),
        };
        add(other.direction, from, to, &other.totals);
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
            direction(pair.direction).to_owned(),
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
