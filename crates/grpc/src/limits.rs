//! What clients may take.

use std::time::Duration;

/// What the clients of one user, and all of them, may take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrpcLimits {
    /// Connections of all users at once. On further ones each request is answered with
    /// RESOURCE_EXHAUSTED, and they are closed soon.
    pub connections: usize,
    /// Connections at once by processes of one user.
    pub connections_per_user: usize,
    /// Streams at once on one connection. Further ones are answered with RESOURCE_EXHAUSTED.
    pub streams_per_connection: u32,
    /// How often a silent client is asked whether it is still there.
    pub keepalive: Duration,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_user: 512,
            streams_per_connection: 64,
            keepalive: Duration::from_secs(30),
        }
    }
}
