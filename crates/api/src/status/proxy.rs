//! The data plane.

use std::{borrow::Cow, net::SocketAddr};

use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A proxy at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ProxyStatus {
    /// The address that the gateway listens on.
    pub gateway: Option<SocketAddr>,
    /// The hub through which others reach this site.
    pub hub: Option<HubStatus>,
    /// Sites that are reached through this one.
    pub relays: Vec<RelayStatus>,
    /// The gateways of the own site that lead to services of this process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateway_links: Vec<GatewayLinkStatus>,
    /// The nodes whose services are reached through the gateway of this process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub node_links: Vec<NodeLinkStatus>,
    /// The listeners for local workloads.
    pub listeners: Vec<ListenerStatus>,
    /// The backends of this site's services.
    #[serde(default)]
    pub backends: Vec<BackendStatus>,
    /// Open connections, up to a thousand.
    #[serde(default)]
    pub flows: Vec<FlowStatus>,
    /// What each pair has carried.
    pub totals: Vec<TotalStatus>,
    /// What the identities have carried that have no row of their own: the rows of one other site
    /// are limited.
    #[serde(default)]
    pub other_totals: Vec<OtherTotalStatus>,
    /// What carries it: the trunks that each pair has now.
    #[serde(default)]
    pub trunks: Vec<TrunkStatus>,
    /// The last refusals, newest first.
    pub refusals: Vec<RefusalRecord>,
    /// How many connections were refused, by reason.
    pub refused: Vec<RefusalCount>,
}

impl ProxyStatus {
    /// Refusals of one reason.
    pub fn refused_for(&self, reason: &str) -> u64 {
        let counts = self.refused.iter().filter(|count| count.reason == reason);
        counts.map(|count| count.count).sum()
    }

    /// How many connections were refused since the start.
    pub fn refused_in_all(&self) -> u64 {
        self.refused.iter().map(|count| count.count).sum()
    }

    /// The newest refusal of one reason.
    pub fn last_refusal(&self, reason: &str) -> Option<&RefusalRecord> {
        self.refusals.iter().find(|last| last.reason == reason)
    }
}

/// Which way a connection was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// By a workload of this site.
    Outbound,
    /// By a workload of another site, or through the gateway of this one.
    Inbound,
}

impl Direction {
    /// As metrics and logs have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// Who talks to whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pair {
    /// The side that opened the connection.
    pub direction: Direction,
    /// The identity of the caller.
    pub caller: SpiffeId,
    /// The service that was called.
    pub callee: SpiffeId,
}

impl Pair {
    /// The end that is at the other side of the network.
    pub fn remote(&self) -> &SpiffeId {
        match self.direction {
            Direction::Outbound => &self.callee,
            Direction::Inbound => &self.caller,
        }
    }

    /// The end that is at this side of the network.
    pub fn own(&self) -> &SpiffeId {
        match self.direction {
            Direction::Outbound => &self.caller,
            Direction::Inbound => &self.callee,
        }
    }

    /// Caller and callee in one text.
    pub fn ends(&self) -> String {
        format!("{} {}", self.caller, self.callee)
    }
}

/// What all connections of a pair have carried, open ones included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Connections that were opened since the start.
    pub connections: u64,
    /// Connections that are open now.
    pub open: u64,
    /// Bytes to the other site.
    pub bytes_sent: u64,
    /// Bytes from the other site.
    pub bytes_received: u64,
}

/// The trunks between a pair, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkCount {
    /// Trunks that have a lane, or streams that wait for one.
    pub trunks: usize,
    /// Their lanes that take new bytes.
    pub lanes: usize,
}

/// A link to a hub or gateway, seen from either end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Whether it carries bytes.
    pub linked: bool,
    /// Since when it has been in this state.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Why it carries none.
    pub reason: Option<String>,
    /// Connections that it carries now.
    pub open: usize,
    /// Connections that it has carried.
    pub connections: u64,
    /// Bytes from here to the other end.
    pub bytes_sent: u64,
    /// Bytes from the other end.
    pub bytes_received: u64,
}

/// The hub through which this site is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubStatus {
    /// The trust domain of the hub.
    pub hub: String,
    /// The address that is dialled, once it is known.
    pub gateway: Option<String>,
    /// The link to it.
    #[serde(flatten)]
    pub link: LinkStatus,
}

/// A site that is reached through this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayStatus {
    /// The trust domain of the site behind this hub.
    pub site: TrustDomain,
    /// The link that it has dialled.
    #[serde(flatten)]
    pub link: LinkStatus,
}

/// A link to a gateway of the own site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayLinkStatus {
    /// The identity of the gateway.
    pub id: SpiffeId,
    /// The address that is dialled.
    pub gateway: String,
    /// The link to it.
    #[serde(flatten)]
    pub link: LinkStatus,
}

/// A node that is reached through this gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLinkStatus {
    /// The identity of the node, or of the site's server for what its process holds.
    pub node: SpiffeId,
    /// The link that it has dialled.
    #[serde(flatten)]
    pub link: LinkStatus,
}

/// A local listener of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerStatus {
    /// The workload it is for.
    pub workload: SpiffeId,
    /// The service it leads to.
    pub target: SpiffeId,
    /// The address that it listens on.
    pub listen: SocketAddr,
    /// The gateway that is dialled.
    pub gateway: Option<String>,
    /// Why its connections are reset at once, if they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// A backend of a service of this site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// The name of the service.
    pub service: String,
    /// Its address as the site file has it.
    pub address: String,
    /// Whether it gets connections. One that is down is tried again with backoff.
    pub up: bool,
    /// Since when it is down.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub down_since: Option<OffsetDateTime>,
    /// Why it is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Connections that it has accepted since the start.
    pub connections: u64,
    /// Connections that it has refused or not answered since the start.
    pub failures: u64,
}

/// A connection that is open, between which two, and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowStatus {
    /// A number that is unique in this process.
    pub id: u64,
    /// Who talks to whom.
    #[serde(flatten)]
    pub pair: Pair,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TotalStatus {
    /// Who talks to whom.
    #[serde(flatten)]
    pub pair: Pair,
    /// What it has carried so far.
    #[serde(flatten)]
    pub totals: Totals,
}

/// What the identities of other sites have carried that have no row of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherTotalStatus {
    /// Which way the connections were opened.
    pub direction: Direction,
    /// The workload or service at this site.
    pub own: SpiffeId,
    /// What they have carried so far.
    #[serde(flatten)]
    pub totals: Totals,
}

/// The trunks of a pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrunkStatus {
    /// Who talks to whom; direction says which side has dialled.
    #[serde(flatten)]
    pub pair: Pair,
    /// How many trunks and lanes there are.
    #[serde(flatten)]
    pub count: TrunkCount,
}

/// A connection that was refused, with the reason for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalRecord {
    /// When it was refused.
    #[serde(with = "time::serde::rfc3339")]
    pub time: OffsetDateTime,
    /// Which way it was opened.
    pub direction: Direction,
    /// The service that was asked for, as far as it is one.
    pub service: String,
    /// The peer's ID (proven or merely claimed), else its address.
    pub peer: String,
    /// A short, stable name of the reason.
    pub reason: Cow<'static, str>,
    /// The reason for people.
    pub sentence: String,
}

/// How often something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalCount {
    /// Which way the connections were opened.
    pub direction: Direction,
    /// The service that was asked for.
    pub service: String,
    /// A short, stable name of the reason.
    pub reason: Cow<'static, str>,
    /// How often it happened since the start.
    pub count: u64,
}
