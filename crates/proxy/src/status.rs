//! What a proxy shows of itself.

use std::{net::SocketAddr, sync::Arc};

use renkei_api::status::{
    BackendStatus, FlowStatus, ListenerStatus, NodeLinkStatus, OtherTotalStatus, ProxyStatus,
    RelayStatus, TotalStatus, TrunkStatus,
};

use crate::{
    context::{Context, Flow},
    hub::OwnLinks,
    outbound::Route,
    trunk::TrunkTable,
};

/// Open connections shown at most, the oldest first, and pairs with trunks; the totals count all.
const SHOWN: usize = 1_000;

fn flow(flow: &Flow) -> FlowStatus {
    FlowStatus {
        id: flow.id,
        pair: flow.pair.clone(),
        remote: flow.remote,
        opened: flow.opened,
        svid_not_after: flow.svid_not_after,
        bytes_sent: flow.traffic.to_wan(),
        bytes_received: flow.traffic.to_app(),
    }
}

pub(crate) fn collect(
    (gateway, own, accepted): (
        Option<SocketAddr>,
        OwnLinks,
        (Vec<RelayStatus>, Vec<NodeLinkStatus>),
    ),
    (routes, backends): (impl Iterator<Item = Arc<Route>>, Vec<BackendStatus>),
    trunks: &TrunkTable,
    context: &Context,
) -> ProxyStatus {
    let listener = |route: Arc<Route>| ListenerStatus {
        workload: route.caller.clone(),
        target: route.target.clone(),
        listen: route.listen,
        gateway: route.gateway.as_ref().map(ToString::to_string),
        fault: route.reachability.fault(),
    };
    let (totals, others) = context.flows.totals();
    let trunks = trunks.count().into_iter();
    let flows = context.flows.list();
    ProxyStatus {
        gateway,
        hub: own.hub,
        gateway_links: own.gateways,
        relays: accepted.0,
        node_links: accepted.1,
        listeners: routes.map(listener).collect(),
        backends,
        flows: flows.iter().take(SHOWN).map(|open| flow(open)).collect(),
        totals: totals
            .into_iter()
            .map(|(pair, totals)| TotalStatus { pair, totals })
            .collect(),
        other_totals: others
            .into_iter()
            .map(|((direction, own), totals)| OtherTotalStatus {
                direction,
                own,
                totals,
            })
            .collect(),
        trunks: trunks
            .take(SHOWN)
            .map(|(pair, count)| TrunkStatus { pair, count })
            .collect(),
        refusals: context.refusals.last(),
        refused: context.refusals.counts(),
    }
}
