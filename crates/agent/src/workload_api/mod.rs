//! The SPIFFE Workload API on a unix socket (SPIFFE_Workload_Endpoint, SPIFFE_Workload_API).
//!
//! Everyone on the node may connect; the kernel says who the caller is, and the selectors of the
//! site's workloads decide which identities it gets. A stream sends the complete set at once and
//! again whenever it changes for that caller, who is attested anew each time. JWT-SVIDs are not
//! part of this version; those methods say so.

mod caller;
mod connection;
mod message;
mod service;
mod socket;
mod subscription;

use std::{path::PathBuf, sync::Arc, time::Duration};

use renkei_api::{node::AgentPart, workload::spiffe_workload_api_server::SpiffeWorkloadApiServer};
use renkei_runtime::supervise::Supervisor;
use renkei_spiffe::Identities;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

pub use socket::SocketError;

use crate::AgentMetrics;
use connection::Connections;
use service::Service;

/// Requests of this API are nearly empty.
const MAX_REQUEST: usize = 64 * 1024;
/// How long open streams get to take leave when the agent stops.
const GOODBYE: Duration = Duration::from_secs(2);

/// What the clients of one user, and all of them, may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Connections at once by processes of one user.
    pub connections_per_user: usize,
    /// Streams at once on one connection.
    pub streams_per_connection: u32,
    /// How often a silent client is asked whether it is still there.
    pub keepalive: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_user: 512,
            streams_per_connection: 64,
            keepalive: Duration::from_secs(30),
        }
    }
}

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
    limits: Limits,
    metrics: AgentMetrics,
    (tasks, stop): (Supervisor, CancellationToken),
) -> Result<tokio::task::JoinHandle<()>, SocketError> {
    let socket = socket::Socket::open(path)?;
    let connections = Connections::new(limits, metrics.clone());
    let service = Service::new(sources, metrics, stop.clone());
    let server = Server::builder()
        .max_concurrent_streams(limits.streams_per_connection)
        .http2_keepalive_interval(Some(limits.keepalive))
        .http2_keepalive_timeout(Some(limits.keepalive))
        .add_service(SpiffeWorkloadApiServer::new(service).max_decoding_message_size(MAX_REQUEST));
    let (socket, over) = (Arc::new(socket), stop.clone());
    let serving = move || {
        let (connections, server) = (connections.clone(), server.clone());
        let (socket, stop) = (socket.clone(), stop.clone());
        async move {
            let incoming = connections.accept(&socket.listener);
            let serving = server.serve_with_incoming_shutdown(incoming, stop.cancelled());
            let overdue = async {
                stop.cancelled().await;
                tokio::time::sleep(GOODBYE).await;
            };
            tokio::select! {
                result = serving => if let Err(error) = result {
                    tracing::error!(%error, "the Workload API ended");
                },
                () = overdue => tracing::debug!("Workload API clients did not take leave in time"),
            }
        }
    };
    Ok(tasks.keep("workload api", move || over.is_cancelled(), serving))
}

#[cfg(test)]
mod tests;
