//! What the status of a process says of the agent that its identities come from.

use renkei_api::status::{ReportFuture, RoleStatus, StatusReporter, SvidStatus, WorkloadApiStatus};
use renkei_spiffe::X509Svid;

use super::AgentIdentities;

impl AgentIdentities {
    fn workload_api_status(&self) -> WorkloadApiStatus {
        let identities = self.identities.borrow().clone();
        let bundles = identities.bundles.iter();
        WorkloadApiStatus {
            socket: self.socket.clone(),
            status: self.status.borrow().clone(),
            svids: identities.svids.values().map(|svid| of(svid)).collect(),
            trust_domains: bundles.map(|bundle| bundle.trust_domain.clone()).collect(),
        }
    }
}

impl StatusReporter for AgentIdentities {
    fn report(&self) -> ReportFuture<'_> {
        Box::pin(async { RoleStatus::WorkloadApi(self.workload_api_status()) })
    }
}

/// An SVID that the other agent renews.
fn of(svid: &X509Svid) -> SvidStatus {
    SvidStatus {
        id: svid.id().clone(),
        serial: Some(svid.serial().to_owned()),
        not_after: Some(svid.not_after()),
        renewals: 0,
        next_renewal: None,
        last_error: None,
    }
}
