//! The exact look-up of one connection through netlink (sock_diag(7)): its cost does not depend
//! on how many connections there are.

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::{
    SockDiagMessage,
    constants::{AF_INET, AF_INET6, IPPROTO_TCP},
    inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags},
};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use procfs::net::TcpState;

use super::{Row, SocketOwner, canonical};

/// INET_DIAG_NOCOOKIE: any socket with these addresses.
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// One answer with its attributes is far smaller.
const ANSWER: usize = 4096;

static HAS_FOUND: AtomicBool = AtomicBool::new(false);

/// Whether a socket was ever found this way, so that finding none means that there is none.
pub(super) fn works() -> bool {
    HAS_FOUND.load(Ordering::Relaxed)
}

thread_local! {
    /// A socket to ask with. After an error it is not used again: an answer that comes late would
    /// be taken for that of the next question.
    static ASKING: Cell<Option<Socket>> = const { Cell::new(None) };
}

/// `None` if there is no such socket, or no such module in the kernel. Never waits.
pub(super) fn lookup(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Row>> {
    let socket = match ASKING.take() {
        Some(socket) => socket,
        None => open()?,
    };
    // The kernel answers within `send`, so that neither call ever waits.
    socket.send(&request(peer, local), 0)?;
    let mut answer = Vec::with_capacity(ANSWER);
    socket.recv(&mut answer, 0)?;
    let found = read(&answer, peer, local)?;
    ASKING.set(Some(socket));
    if found.is_some() {
        HAS_FOUND.store(true, Ordering::Relaxed);
    }
    Ok(found)
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.set_non_blocking(true)?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

fn request(peer: SocketAddr, local: SocketAddr) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let request = InetRequest {
        family: if peer.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: peer.port(),
            destination_port: local.port(),
            source_address: peer.ip(),
            destination_address: local.ip(),
            interface_id: 0,
            cookie: NO_COOKIE,
        },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn read(answer: &[u8], peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Row>> {
    let invalid = |error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, error.to_string())
    };
    NetlinkBuffer::new_checked(answer).map_err(|error| invalid(&error))?;
    let message: NetlinkMessage<SockDiagMessage> =
        NetlinkMessage::deserialize(answer).map_err(|error| invalid(&error))?;
    match message.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
            Ok(row(&found, peer, local))
        }
        NetlinkPayload::Error(error) => {
            let error = error.to_io();
            if error.kind() == io::ErrorKind::NotFound {
                Ok(None)
            } else {
                Err(error)
            }
        }
        _ => Err(invalid(&"not an answer to the question")),
    }
}

/// The kernel falls back to a listening socket when no connection fits: only a socket that is
/// connected to us counts.
fn row(found: &InetResponse, peer: SocketAddr, local: SocketAddr) -> Option<Row> {
    let id = &found.header.socket_id;
    let from = canonical(SocketAddr::new(id.source_address, id.source_port));
    let to = canonical(SocketAddr::new(id.destination_address, id.destination_port));
    let owner = SocketOwner {
        uid: found.header.uid,
        inode: u64::from(found.header.inode),
    };
    let state = TcpState::from_u8(found.header.state)?;
    (from == peer && to == local).then_some(Row { state, owner })
}
