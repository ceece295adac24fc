//! Hubs and gateways, and the sites and nodes behind them, in `renkei status` and `renkei explain`.

use renkei_api::status::{LinkStatus, ProxyStatus};
use renkei_site::Site;
use renkei_spiffe::TrustDomain;

use crate::output;

fn state(link: &LinkStatus) -> String {
    match (link.linked, &link.reason) {
        (true, _) => format!("linked {}", output::since(link.since)),
        (false, Some(reason)) => format!("not linked: {reason}"),
        (false, None) => "not linked".to_owned(),
    }
}

/// The section of `renkei status`.
pub(crate) fn section(status: &ProxyStatus) -> String {
    let head = [
        "LINK",
        "BY",
        "STATE",
        "OPEN",
        "CONNECTIONS",
        "SENT",
        "RECEIVED",
    ];
    let mut table = output::table(&head);
    let hub = status.hub.iter().map(|hub| {
        let name = format!("to the hub {}", hub.hub);
        (name, hub.gateway.clone().unwrap_or_default(), &hub.link)
    });
    let relayed = status.relays.iter().map(|relayed| {
        let name = format!("from {}", relayed.site);
        (name, "this site's gateway".to_owned(), &relayed.link)
    });
    let gateways = status.gateway_links.iter().map(|to| {
        let name = format!("to the gateway {}", to.id.short());
        (name, to.gateway.clone(), &to.link)
    });
    let nodes = status.node_links.iter().map(|from| {
        let name = format!("from {}", from.node.short());
        (name, "this gateway".to_owned(), &from.link)
    });
    for (name, by, link) in hub.chain(gateways).chain(relayed).chain(nodes) {
        table.add_row([
            name,
            by,
            state(link),
            link.open.to_string(),
            link.connections.to_string(),
            output::bytes(link.bytes_sent),
            output::bytes(link.bytes_received),
        ]);
    }
    output::section("Links", &table)
}

/// What is between callers elsewhere and a service of this site, which may have a hub. Whether
/// it holds, and a sentence.
pub(crate) fn to_this_site(
    site: &Site,
    status: Option<&ProxyStatus>,
) -> Option<(Option<bool>, String)> {
    let hub = site.gateway.as_ref()?.via.as_ref()?;
    let says = format!("callers of other sites come through the hub {hub}");
    let known = status.and_then(|status| status.hub.as_ref());
    Some(match known.filter(|known| known.hub == hub.as_str()) {
        Some(known) => (Some(known.link.linked), with_state(says, &known.link)),
        None => (None, says),
    })
}

/// The same for a service of a site that this one relays for.
pub(crate) fn to_relayed(
    site: &Site,
    status: Option<&ProxyStatus>,
    name: &TrustDomain,
) -> Option<(Option<bool>, String)> {
    if !site.relays.contains(name) {
        return None;
    }
    let says = format!("this site is the hub of {name}");
    let known = status.and_then(|status| status.relays.iter().find(|known| known.site == *name));
    Some(match known {
        Some(known) => (Some(known.link.linked), with_state(says, &known.link)),
        None => (None, says),
    })
}

fn with_state(says: String, link: &LinkStatus) -> String {
    format!("{says} ({})", state(link))
}
