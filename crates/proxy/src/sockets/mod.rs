//! Sockets of TCP, and unix sockets of backends: listening, connecting, and how a connection ends.

mod backend;
mod connect;
mod listener;
mod plain;
mod tcp_info;
mod unix;

use std::{io, net::SocketAddr, time::Duration};

use renkei_site::Item;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use backend::connect_backend;
pub(crate) use connect::{ConnectError, connect};
pub(crate) use listener::{ConnectionHandler, Listener, serve};
pub(crate) use plain::{OnClose, PlainStream};
pub(crate) use tcp_info::{TcpInfo, is_open};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {}", explain(error))]
pub struct ListenFault {
    /// Where the site file has the address.
    pub item: Item,
    /// The address to listen on.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub error: io::Error,
}

impl ListenFault {
    /// What to do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self.error.kind() {
            io::ErrorKind::AddrInUse => "`ss -ltnp` shows which program listens there",
            io::ErrorKind::AddrNotAvailable => "`ip address` shows which addresses there are",
            io::ErrorKind::PermissionDenied => {
                "choose a port from 1024 on, or give the program CAP_NET_BIND_SERVICE"
            }
            _ => "choose another address",
        }
    }
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program already listens there".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "this user may not listen there (ports below 1024 need a privilege)".to_owned()
        }
        _ => error.to_string(),
    }
}

/// A listener, and what becomes of its connections when they are closed.
pub(crate) fn bind(address: SocketAddr, connections: OnClose) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Only lets a restarted process in while old connections linger; never two listeners.
    socket.set_reuse_address(true)?;
    // Accepted connections inherit both.
    socket.set_tcp_nodelay(true)?;
    connections.set(&SockRef::from(&socket))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// The settings of every connection that is dialled.
pub(crate) fn settle(socket: &Socket, peer: SocketAddr) {
    // Errors mean that the connection is gone, which the next step will notice.
    let _ = socket.set_tcp_nodelay(true);
    set_congestion(socket, peer);
}

/// Within one machine there is no path whose pace could be found out: algorithms that pace (BBR)
/// cost a timer for every few segments there, so those connections get the one that every kernel
/// has and allows.
fn set_congestion(socket: &Socket, peer: SocketAddr) {
    if peer.ip().to_canonical().is_loopback() {
        let _ = socket.set_tcp_congestion(b"reno");
    }
}

/// Notices within about two minutes that the other end of a quiet connection is gone, and keeps
/// middleboxes from forgetting it. Quiet connections live on. On one machine no end is silent.
pub(crate) fn keep_alive(stream: &TcpStream, peer: SocketAddr) {
    if peer.ip().to_canonical().is_loopback() {
        return;
    }
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(15))
        .with_retries(6);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}
