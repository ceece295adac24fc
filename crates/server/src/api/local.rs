//! The local socket: the same API for processes of the server's own user and root. The folder and
//! the mode of the socket keep others out, and each caller is checked by the kernel's word.

use std::{path::Path, time::Duration};

use renkei_grpc::{ConnectionMetrics, GrpcLimits, OpenServer, UnixServer};
use renkei_runtime::unix_socket::SocketError;

/// The name of the socket in the state folder. It is shorter than that of the control socket, so
/// that the path fits wherever that one does.
const NAME: &str = "server.sock";
/// Only the owner and root may connect.
const MODE: u32 = 0o600;
const LIMITS: GrpcLimits = GrpcLimits {
    connections: 256,
    connections_per_user: 256,
    streams_per_connection: 64,
    keepalive: Duration::from_secs(30),
};

/// Opens the socket. Nothing is answered yet.
pub(super) fn open(state: &Path) -> Result<OpenServer, SocketError> {
    let server = UnixServer {
        service: "local server API",
        path: state.join(NAME),
        mode: MODE,
        limits: LIMITS,
        metrics: ConnectionMetrics::default(),
    };
    server.open()
}
