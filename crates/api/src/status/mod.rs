//! What a running site and its roles report of themselves. The roles fill these values in; the
//! command line reads them back.

mod agent;
mod federation;
mod proxy;
mod report;
mod server;
mod server_link;

use std::collections::BTreeMap;

use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

pub use agent::{AgentStatus, SourceStatus, SvidStatus, WorkloadApiStatus, WorkloadStatus};
pub use federation::{
    FederationStatus, LogStatus, MemberStatus, MirrorStatus, Publishing, RefusedStatus,
};
pub use proxy::{
    BackendStatus, Direction, FlowStatus, GatewayLinkStatus, HubStatus, LinkStatus, ListenerStatus,
    NodeLinkStatus, OtherTotalStatus, Pair, ProxyStatus, RefusalCount, RefusalRecord, RelayStatus,
    TotalStatus, Totals, TrunkCount, TrunkStatus,
};
pub use report::{ReportFuture, RoleStatus, StatusReporter};
pub use server::{
    AuthorityStatus, CaState, EndpointStatus, EntryKind, EntryStatus, NodeLink, NodeStatus,
    OwnIdentityStatus, PeerIdentityStatus, PeerStatus, ServerReport, ServerStatus,
};
pub use server_link::{NodeFault, ServerLinkStatus};

/// A running site at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteStatus {
    /// The name of the site, for people.
    pub site: String,
    /// The trust domain whose authority the site is.
    pub trust_domain: TrustDomain,
    /// The version of Renkei that runs.
    pub version: String,
    /// Whether every condition holds.
    pub ready: bool,
    /// Every condition by name: nothing when it holds, otherwise why not.
    pub conditions: BTreeMap<String, Option<String>>,
    /// What the proxy reports: connections, trunks, listeners, refusals.
    pub proxy: ProxyStatus,
    /// The site's own authority, unless identities come from another agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerReport>,
    /// The site's own agent, unless identities come from another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentStatus>,
    /// The agent of another process that identities come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_api: Option<WorkloadApiStatus>,
    /// Of a node: its link to the server of its site. Then `site` is the name of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ServerLinkStatus>,
}

impl SiteStatus {
    /// The authority, if the site has one that could report.
    pub fn authority(&self) -> Option<&ServerStatus> {
        match &self.server {
            Some(ServerReport::Status(status)) => Some(status),
            Some(ServerReport::Failed { .. }) | None => None,
        }
    }

    /// Ready, and with a bundle of every peer.
    pub fn is_linked(&self) -> bool {
        let mut peers = self
            .authority()
            .into_iter()
            .flat_map(|server| &server.peers);
        self.ready && peers.all(|peer| peer.authorities > 0)
    }

    /// When the SVID of an ID of this site ends, or why there is none.
    pub fn svid_end(&self, id: &SpiffeId) -> Result<OffsetDateTime, Option<String>> {
        let (agent, foreign) = (self.agent.iter(), self.workload_api.iter());
        let own = agent.flat_map(|agent| &agent.svids);
        let svids = own.chain(foreign.flat_map(|api| &api.svids));
        let Some(svid) = svids.into_iter().find(|svid| svid.id == *id) else {
            let api = self.workload_api.as_ref();
            return Err(api.and_then(|api| api.status.last_error.clone()));
        };
        svid.not_after.ok_or_else(|| svid.last_error.clone())
    }

    /// The SVIDs of workloads and services, without those of the site's server and nodes.
    pub fn identities(&self) -> impl Iterator<Item = &SvidStatus> {
        let all = self.agent.iter().flat_map(|agent| &agent.svids);
        all.filter(|svid| !svid.id.path().starts_with("/renkei/"))
    }
}
