//! The SPIFFE Workload API on a unix socket (SPIFFE_Workload_Endpoint, SPIFFE_Workload_API).
//!
//! Everyone on the node may connect; the kernel says who the caller is, and the selectors of the
//! site's workloads decide which identities it gets. A stream sends the complete set at once and
//! again whenever it changes for that caller, who is attested again each time. JWT-SVIDs are not
//! part of this version; those methods say so.

mod caller;
mod message;
mod service;
mod subscription;

use std::{path::PathBuf, sync::Arc};

use renkei_api::{node::AgentPart, workload::spiffe_workload_api_server::SpiffeWorkloadApiServer};
use renkei_grpc::UnixServer;
use renkei_runtime::supervise::Supervisor;
use renkei_spiffe::Identities;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use renkei_grpc::GrpcLimits;
pub use renkei_runtime::unix_socket::SocketError;

use crate::AgentMetrics;
use service::Service;

/// Requests of this API are nearly empty.
const MAX_REQUEST: usize = 64 * 1024;
/// Every user may connect; attestation decides.
const MODE: u32 = 0o666;

/// What the Workload API serves from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The entries, with their selectors.
    pub part: watch::Receiver<Arc<AgentPart>>,
    /// The SVIDs and bundles to hand out.
    pub identities: watch::Receiver<Arc<Identities>>,
}

/// Opens the socket and serves until `stop`. The socket is open when this returns.
pub fn serve(
    path: PathBuf,
    sources: Sources,
    limits: GrpcLimits,
    metrics: AgentMetrics,
    (tasks, stop): (Supervisor, CancellationToken),
) -> Result<tokio::task::JoinHandle<()>, SocketError> {
    let connections = metrics.connections();
    let service = Service::new(sources, metrics, stop.clone());
    let service = SpiffeWorkloadApiServer::new(service).max_decoding_message_size(MAX_REQUEST);
    let server = UnixServer {
        service: "Workload API",
        path,
        mode: MODE,
        limits,
        metrics: connections,
    };
    server.start(Routes::new(service), (tasks, stop))
}

#[cfg(test)]
mod tests;
