//! A node, and its link to the server of its site.

use renkei_spiffe::SpiffeId;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// How a node is doing with its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerLinkStatus {
    /// The ID with which the node speaks to the server.
    pub id: SpiffeId,
    /// The address of the server's API.
    pub server: String,
    /// Since when the node is connected; none while it is not.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub connected_since: Option<OffsetDateTime>,
    /// When the SVID expires by which the server knows the node.
    #[serde(with = "time::serde::rfc3339")]
    pub svid_end: OffsetDateTime,
    /// The version of the proxy's part that was applied last; none before the first.
    #[serde(default)]
    pub version: Option<u64>,
    /// Why the node is without its server, until it is connected again.
    #[serde(default)]
    pub last_error: Option<String>,
    /// What of the latest configuration could not be taken.
    #[serde(default)]
    pub faults: Vec<NodeFault>,
}

/// Something of a configuration that a node could not take.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeFault {
    /// The listener, service or policy, as the site file names it.
    pub item: String,
    /// Why, in a sentence.
    pub reason: String,
}
