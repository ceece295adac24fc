//! Connections that come by a link, handed to this process's own gateway over loopback, like any
//! other connection.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwapOption;
use renkei_site::own_address;
use socket2::SockRef;
use tokio::{
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::LinkState;
use crate::{
    admission::Source,
    context::Context,
    relay,
    sockets::{PlainStream, settle},
    trunk::TrunkStream,
    wan::WanStream,
};

/// Which connections to this process's gateway came by a link, by their local address here,
/// and where they come from. Without it they would seem to come from this node itself, and
/// policies that look at addresses would take them for its own.
#[derive(Debug, Default)]
pub(super) struct LoopbackBridge {
    known: Mutex<HashMap<SocketAddr, Source>>,
    /// The address that the gateway is bound to.
    gateway: ArcSwapOption<SocketAddr>,
}

impl LoopbackBridge {
    pub(super) fn set_gateway(&self, gateway: Option<SocketAddr>) {
        self.gateway.store(gateway.map(Arc::new));
    }

    /// The far side of a connection that was accepted from `peer`.
    pub(super) fn source(&self, peer: SocketAddr) -> Source {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get(&peer).copied();
        known.unwrap_or_else(|| Source::direct(peer))
    }

    fn expect(&self, local: SocketAddr, source: Source) -> Expected<'_> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(local, source);
        Expected {
            bridge: self,
            local,
        }
    }
}

struct Expected<'a> {
    bridge: &'a LoopbackBridge,
    local: SocketAddr,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        let known = self.bridge.known.lock();
        known
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.local);
    }
}

impl LoopbackBridge {
    /// Carries one connection between its link and the gateway, to its end.
    pub(super) async fn carry(
        &self,
        stream: TrunkStream,
        source: Source,
        state: &LinkState,
        cut: &CancellationToken,
        context: &Context,
    ) {
        let connected = timeout(context.limits.connect_timeout, self.to_gateway(source)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let (tcp, _expected) = match connected {
            Ok(connected) => connected,
            Err(error) => {
                tracing::warn!(
                    %error,
                    "a connection that came by a link did not reach this process's own gateway"
                );
                return;
            }
        };
        let (gateway, link) = (PlainStream::armed(tcp), WanStream::trunk(stream));
        let end = relay::relay(gateway, link, None, &state.traffic, cut).await;
        tracing::debug!(?end, "a connection that came by a link has ended");
    }

    async fn to_gateway(&self, source: Source) -> io::Result<(TcpStream, Expected<'_>)> {
        let gateway = self.gateway.load_full();
        let gateway = own_address(*gateway.ok_or(io::ErrorKind::NotConnected)?);
        let socket = match gateway {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // The port is known, and entered, before the gateway can have accepted the connection.
        socket.bind(SocketAddr::new(gateway.ip(), 0))?;
        let expected = self.expect(socket.local_addr()?, source);
        let tcp = socket.connect(gateway).await?;
        settle(&SockRef::from(&tcp), gateway);
        Ok((tcp, expected))
    }
}
