//! Serves on a unix socket until it is stopped.

use std::{path::PathBuf, sync::Arc, time::Duration};

use renkei_runtime::{
    supervise::Supervisor,
    unix_socket::{SocketError, UnixSocket},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

use crate::{ConnectionMetrics, GrpcLimits, admission::Admission, connection::Connections};

/// Streams of one connection beyond its limit that are answered with an error. HTTP/2 makes further
/// ones wait.
const REFUSED_STREAMS: u32 = 256;

/// How long open streams get to end when the server stops.
const GOODBYE: Duration = Duration::from_secs(2);

/// A gRPC server on a unix socket.
#[derive(Debug)]
pub struct UnixServer {
    /// What it serves, for people: `Workload API`.
    pub service: &'static str,
    /// Where the socket is.
    pub path: PathBuf,
    /// The mode of the socket: who may connect.
    pub mode: u32,
    /// What clients may take up.
    pub limits: GrpcLimits,
    /// Where connections are counted.
    pub metrics: ConnectionMetrics,
}

/// A server whose socket is open, and that does not answer yet.
#[derive(Debug)]
pub struct OpenServer {
    service: &'static str,
    limits: GrpcLimits,
    socket: UnixSocket,
    admission: Admission,
    connections: Connections,
}

impl UnixServer {
    /// Opens the socket and serves until `stop`. The socket is open when this returns. Handlers
    /// find the calling process as `Arc<Peer>` among the extensions of a request.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn start(
        self,
        routes: Routes,
        (tasks, stop): (Supervisor, CancellationToken),
    ) -> Result<JoinHandle<()>, SocketError> {
        Ok(self.open()?.keep(routes, (tasks, stop)))
    }

    /// Opens the socket. Clients wait until it is served.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn open(self) -> Result<OpenServer, SocketError> {
        let (service, limits) = (self.service, self.limits);
        let socket = UnixSocket::open(service, &self.path, self.mode)?;
        let admission = Admission {
            service,
            streams: limits.streams_per_connection,
            refused: self.metrics.refused_streams.clone(),
        };
        Ok(OpenServer {
            service,
            limits,
            socket,
            admission,
            connections: Connections::new(service, limits, self.metrics),
        })
    }
}

impl OpenServer {
    /// Serves until `stop`. The task holds the socket: it is closed when the task has ended.
    pub fn keep(
        self,
        routes: Routes,
        (tasks, stop): (Supervisor, CancellationToken),
    ) -> JoinHandle<()> {
        let (service, limits) = (self.service, self.limits);
        let most = limits.streams_per_connection;
        let server = Server::builder()
            .layer(self.admission)
            .max_concurrent_streams(most.saturating_add(REFUSED_STREAMS))
            .http2_keepalive_interval(Some(limits.keepalive))
            .http2_keepalive_timeout(Some(limits.keepalive))
            .add_routes(routes);
        let (socket, over) = (Arc::new(self.socket), stop.clone());
        let connections = self.connections;
        let serving = move || {
            let (connections, server) = (connections.clone(), server.clone());
            let (socket, stop) = (socket.clone(), stop.clone());
            async move {
                let incoming = connections.accept(socket.listener());
                let serving = server.serve_with_incoming_shutdown(incoming, stop.cancelled());
                let overdue = async {
                    stop.cancelled().await;
                    tokio::time::sleep(GOODBYE).await;
                };
                tokio::select! {
                    result = serving => if let Err(error) = result {
                        tracing::error!(%error, "the {service} ended");
                    },
                    () = overdue => tracing::debug!("clients of the {service} did not end in time"),
                }
            }
        };
        let task = service.to_lowercase();
        tasks.keep(task, move || over.is_cancelled(), serving)
    }
}
