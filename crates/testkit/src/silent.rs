//! An address that does not answer.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

/// A listener that accepts nothing and whose queue is full: the kernel drops what asks for a
/// connection, as a firewall does.
#[derive(Debug)]
pub struct Silent {
    /// Where it listens.
    pub address: SocketAddr,
    _listener: Socket,
    _queued: TcpStream,
}

impl Silent {
    /// One on loopback.
    pub fn start() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.bind(&any.into()).expect("an address");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("its address");
        let address = address.as_socket().expect("an address of IPv4");
        let queued = TcpStream::connect(address).expect("the one connection that finds room");
        Self {
            address,
            _listener: listener,
            _queued: queued,
        }
    }
}
