//! Whether the proxy is ready.

use renkei_runtime::{clock, readiness::Condition};

use crate::context::Context;

/// Ready when every identity that the desired state needs is there and valid.
pub(crate) fn set(ready: &Condition, context: &Context) {
    let Some(desired) = context.desired.load_full() else {
        return;
    };
    let (identities, now) = (context.identities(), clock::now());
    let site = &desired.site;
    let mut callers: Vec<_> = site.listeners.iter().map(|one| &one.caller).collect();
    callers.dedup();
    let hub = site
        .gateway
        .as_ref()
        .and_then(|gateway| gateway.via.as_ref());
    let dials = hub.is_some() || !site.links.is_empty();
    let takes = !site.relays.is_empty() || !site.node_services.is_empty() || !site.exits.is_empty();
    let linked = (dials || takes).then_some(&site.link_id);
    let needed = callers
        .into_iter()
        .chain(site.services.values().map(|service| &service.id))
        .chain(linked);
    let missing: Vec<_> = needed
        .filter(|id| identities.valid_svid(id, now).is_err())
        .map(|id| id.short())
        .collect();
    match missing.is_empty() {
        true => ready.set_ready(),
        false => ready.set_not_ready(format!("no identity for {}", missing.join(", "))),
    }
}
