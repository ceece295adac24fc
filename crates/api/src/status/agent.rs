//! The agent, or that of other software that takes its place.

use std::{borrow::Cow, collections::BTreeMap, path::PathBuf};

use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// What an agent reports of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Where the Workload API is served.
    pub socket: PathBuf,
    /// Every ID that this node is to hold.
    pub svids: Vec<SvidStatus>,
    /// Who may fetch which of them.
    #[serde(default)]
    pub workloads: Vec<WorkloadStatus>,
    /// Open Workload API streams.
    #[serde(default)]
    pub subscribers: u64,
    /// Renewals of all IDs since the start, removed ones included.
    #[serde(default)]
    pub renewals: u64,
    /// Callers that got nothing, by reason.
    #[serde(default)]
    pub denials: BTreeMap<Cow<'static, str>, u64>,
}

/// An ID and its SVID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SvidStatus {
    /// The SPIFFE ID of the SVID.
    pub id: SpiffeId,
    /// Serial number in hexadecimal digits; none while there is no valid SVID.
    pub serial: Option<String>,
    /// When the SVID expires; none while there is no valid SVID.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// How many SVIDs of this ID came after the first.
    #[serde(default)]
    pub renewals: u64,
    /// When the next one is asked for.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub next_renewal: Option<OffsetDateTime>,
    /// Why the latest request failed, until one succeeds.
    #[serde(default)]
    pub last_error: Option<String>,
}

/// A workload as the agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// The name under `workloads`.
    pub name: String,
    /// The SPIFFE ID that is issued.
    pub id: SpiffeId,
    /// What a process must be, such as `unix:user:kafka`.
    pub selectors: Vec<String>,
}

/// Another agent's Workload API, where the identities come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadApiStatus {
    /// The path of its socket.
    pub socket: String,
    /// How the connection to it is doing.
    pub status: SourceStatus,
    /// The SVIDs that it gives.
    #[serde(default)]
    pub svids: Vec<SvidStatus>,
    /// The trust domains whose bundles it gives.
    #[serde(default)]
    pub trust_domains: Vec<TrustDomain>,
}

/// How the connection to another agent is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Whether a stream is open that has brought a good message.
    pub connected: bool,
    /// Good messages so far.
    pub updates: u64,
    /// The latest failure, until a good message comes.
    pub last_error: Option<String>,
}
