//! What a proxy shows of itself.

use std::{net::SocketAddr, sync::Arc};

use renkei_spiffe::SpiffeId;
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    HubStatus, RelayStatus,
    flows::{Direction, Flow, Pair, Totals},
    outbound::Route,
    refusals::{RefusalCount, RefusalRecord},
    shared::Shared,
    trunk::TrunkCount,
};

/// Open connections shown at most, the oldest first; the totals count all.
const SHOWN: usize = 1_000;

/// A proxy at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ProxyStatus {
    /// The address that the gateway listens on.
    pub gateway: Option<SocketAddr>,
    /// The hub through which others reach this site.
    pub hub: Option<HubStatus>,
    /// Sites that are reached through this one.
    pub relays: Vec<RelayStatus>,
    /// Local listeners.
    pub listeners: Vec<ListenerStatus>,
    /// Open connections, up to a thousand.
    pub flows: Vec<FlowStatus>,
    /// What each pair has carried.
    pub totals: Vec<TotalStatus>,
    /// What carries it: the trunks that each pair has now.
    pub trunks: Vec<TrunkStatus>,
    /// The last refusals, newest first.
    pub refusals: Vec<RefusalRecord>,
    /// All refusals, counted.
    pub refused: Vec<RefusalCount>,
}

/// A local listener.
#[derive(Debug, Clone, Serialize)]
pub struct ListenerStatus {
    /// The workload it is for.
    pub workload: SpiffeId,
    /// The service it leads to.
    pub target: SpiffeId,
    /// Its address.
    pub listen: SocketAddr,
    /// The gateway that is dialled.
    pub gateway: Option<String>,
}

/// An open connection.
#[derive(Debug, Clone, Serialize)]
pub struct FlowStatus {
    /// Its number.
    pub id: u64,
    /// Which way.
    pub direction: Direction,
    /// Who called.
    pub caller: SpiffeId,
    /// Who was called.
    pub callee: SpiffeId,
    /// The address at the other side of the network.
    pub remote: SocketAddr,
    /// When it was opened.
    #[serde(with = "time::serde::rfc3339")]
    pub opened: OffsetDateTime,
    /// When the SVID ends under which it was opened.
    #[serde(with = "time::serde::rfc3339")]
    pub svid_not_after: OffsetDateTime,
    /// Bytes to the other site.
    pub bytes_sent: u64,
    /// Bytes from the other site.
    pub bytes_received: u64,
}

/// What a pair has carried.
#[derive(Debug, Clone, Serialize)]
pub struct TotalStatus {
    /// Who talks to whom.
    #[serde(flatten)]
    pub pair: Pair,
    /// How much.
    #[serde(flatten)]
    pub totals: Totals,
}

/// The trunks of a pair.
#[derive(Debug, Clone, Serialize)]
pub struct TrunkStatus {
    /// Who talks to whom; direction says which side has dialled.
    #[serde(flatten)]
    pub pair: Pair,
    /// How many.
    #[serde(flatten)]
    pub count: TrunkCount,
}

impl From<&Flow> for FlowStatus {
    fn from(flow: &Flow) -> Self {
        Self {
            id: flow.id,
            direction: flow.pair.direction,
            caller: flow.pair.caller.clone(),
            callee: flow.pair.callee.clone(),
            remote: flow.remote,
            opened: flow.opened,
            svid_not_after: flow.svid_not_after,
            bytes_sent: flow.traffic.to_wan(),
            bytes_received: flow.traffic.to_app(),
        }
    }
}

pub(crate) fn collect(
    (gateway, hub): (Option<SocketAddr>, Option<HubStatus>),
    routes: impl Iterator<Item = Arc<Route>>,
    shared: &Shared,
) -> ProxyStatus {
    let listener = |route: Arc<Route>| ListenerStatus {
        workload: route.caller.clone(),
        target: route.target.clone(),
        listen: route.listen,
        gateway: route.gateway.as_ref().map(ToString::to_string),
    };
    let totals = shared.flows.totals().into_iter();
    let trunks = shared.census.count().into_iter();
    let flows = shared.flows.list();
    ProxyStatus {
        gateway,
        hub,
        relays: RelayStatus::all(shared),
        listeners: routes.map(listener).collect(),
        flows: flows
            .iter()
            .take(SHOWN)
            .map(|flow| FlowStatus::from(&**flow))
            .collect(),
        totals: totals
            .map(|(pair, totals)| TotalStatus { pair, totals })
            .collect(),
        trunks: trunks
            .map(|(pair, count)| TrunkStatus { pair, count })
            .collect(),
        refusals: shared.refusals.last(),
        refused: shared.refusals.counts(),
    }
}
