//! Connecting to a backend, whatever it listens on.

use std::time::Duration;

use renkei_site::BackendAddress;

use super::{ConnectError, OnClose, PlainStream, connect, keep_alive, unix};

/// Connects to a backend.
pub(crate) async fn connect_backend(
    to: &BackendAddress,
    limit: Duration,
    on_close: OnClose,
) -> Result<PlainStream, ConnectError> {
    match to {
        BackendAddress::Tcp(to) => {
            let (stream, peer) = connect(to, limit, on_close).await?;
            keep_alive(&stream, peer);
            Ok(PlainStream::new(stream))
        }
        BackendAddress::Unix(path) => {
            let stream = unix::connect(path, limit).await?;
            Ok(PlainStream::new(stream))
        }
    }
}
