//! How the roles of a process give their part of its status.

use std::{future::Future, pin::Pin};

use super::{
    AgentStatus, ProxyStatus, ServerLinkStatus, ServerReport, SiteStatus, WorkloadApiStatus,
};

/// What one role reports of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleStatus {
    /// The site's own authority.
    Server(ServerReport),
    /// The agent of this process.
    Agent(AgentStatus),
    /// The proxy of this process.
    Proxy(Box<ProxyStatus>),
    /// The agent of another process, from which the identities come.
    WorkloadApi(WorkloadApiStatus),
    /// The link of a node to the server of its site.
    Node(ServerLinkStatus),
}

/// A report that comes later.
pub type ReportFuture<'a> = Pin<Box<dyn Future<Output = RoleStatus> + Send + 'a>>;

/// A role, or another part of a process, that reports its status. It never fails: what cannot be
/// read is part of the report.
pub trait StatusReporter: Send + Sync {
    /// The status at this moment.
    fn report(&self) -> ReportFuture<'_>;
}

impl SiteStatus {
    /// The same with what each of them reports now.
    pub async fn with_reports(mut self, reporters: &[&dyn StatusReporter]) -> Self {
        for reporter in reporters {
            match reporter.report().await {
                RoleStatus::Server(report) => self.server = Some(report),
                RoleStatus::Agent(status) => self.agent = Some(status),
                RoleStatus::Proxy(status) => self.proxy = *status,
                RoleStatus::WorkloadApi(status) => self.workload_api = Some(status),
                RoleStatus::Node(status) => self.node = Some(status),
            }
        }
        self
    }
}
