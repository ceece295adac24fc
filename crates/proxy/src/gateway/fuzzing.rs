//! For the fuzz targets alone: what reads a stranger's first bytes, without a proxy around it.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpStream;

pub use crate::sessions::http::fuzzing::*;

/// All that was read of a connection that begins with a ClientHello.
pub async fn client_hello(stream: TcpStream, peer: SocketAddr) -> Option<Bytes> {
    let hello = super::client_hello::read(stream, peer).await.ok()?;
    let _name = hello.client_hello().server_name().map(str::len);
    Some(hello.received)
}
