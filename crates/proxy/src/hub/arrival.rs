//! Connections that come through the hub, handed to this site's own gateway like any other.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use renkei_site::own_address;
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::Board;
use crate::{
    listener::settle, plain::PlainStream, relay, shared::Shared, trunk::TrunkStream, wan::WanStream,
};

/// Which connections to this site's gateway came through the hub, by their local address here,
/// and the address of the hub from which they came. Without it they would seem to come from this
/// node itself, and policies that look at addresses would take them for its own.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(Mutex<HashMap<SocketAddr, SocketAddr>>);

impl Arrivals {
    /// The address at the far side of a connection that was accepted from `peer`.
    pub(crate) fn origin(&self, peer: SocketAddr) -> SocketAddr {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&peer).copied().unwrap_or(peer)
    }

    fn expect(&self, local: SocketAddr, hub: SocketAddr) -> Expected<'_> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(local, hub);
        Expected {
            arrivals: self,
            local,
        }
    }
}

struct Expected<'a> {
    arrivals: &'a Arrivals,
    local: SocketAddr,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let known = self.arrivals.0.lock();
        known
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.local);
    }
}

/// Carries one connection between the link and the gateway, to its end.
pub(super) async fn arrive(
    stream: TrunkStream,
    hub: SocketAddr,
    board: &Board,
    cut: &CancellationToken,
    shared: &Arc<Shared>,
) {
    let connected = timeout(shared.limits.connect_time, to_gateway(hub, shared)).await;
    let (tcp, _expected) = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(connected) => connected,
        Err(error) => {
            tracing::warn!(%error, "a connection from the hub did not reach this site's gateway");
            return;
        }
    };
    let end = relay::relay(
        PlainStream::armed(tcp),
        WanStream::Trunk(stream),
        None,
        &board.traffic,
        cut,
    )
    .await;
    tracing::debug!(?end, "a connection from the hub has ended");
}

async fn to_gateway(
    hub: SocketAddr,
    shared: &Arc<Shared>,
) -> io::Result<(TcpStream, Expected<'_>)> {
    let gateway = shared.gateway.load_full();
    let gateway = own_address(*gateway.ok_or(io::ErrorKind::NotConnected)?);
    let socket = match gateway {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // The port is known, and entered, before the gateway can have accepted the connection.
    socket.bind(SocketAddr::new(gateway.ip(), 0))?;
    let expected = shared.arrivals.expect(socket.local_addr()?, hub);
    let tcp = socket.connect(gateway).await?;
    settle(&SockRef::from(&tcp), gateway);
    Ok((tcp, expected))
}
