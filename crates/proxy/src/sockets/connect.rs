//! Connecting to a host by name: every address it has, in turn.

use std::{io, net::SocketAddr, time::Duration};

use nix::errno::Errno;
use renkei_runtime::exposure::SocketFault;
use renkei_site::{Host, HostPort};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{net::TcpStream, time::timeout};

use super::{OnClose, settle};

/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

/// Why no connection came about.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The name does not resolve.
    #[error("the name does not resolve: {0}")]
    Name(String),
    /// The other machine answered that nothing listens there.
    #[error("nothing listens there (connection refused)")]
    Refused,
    /// No answer at all.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
    /// The unix socket is not there, or not for use.
    #[error(transparent)]
    Socket(SocketFault),
    /// The unix socket lets this process's user not connect.
    #[error("its mode does not let the user of this process connect (permission denied)")]
    Denied,
    /// The unix socket is not of type stream.
    #[error("it is not a socket of type stream")]
    WrongType,
    /// Anything else, such as no route.
    #[error("{0}")]
    System(io::Error),
}

impl ConnectError {
    /// Whether this process or machine is short of something: the other machine was not asked.
    pub(crate) fn is_local(&self) -> bool {
        let Self::System(error) = self else {
            return false;
        };
        let code = error.raw_os_error().map(Errno::from_raw);
        matches!(
            code,
            Some(
                Errno::EMFILE
                    | Errno::ENFILE
                    | Errno::ENOBUFS
                    | Errno::ENOMEM
                    | Errno::EADDRNOTAVAIL
                    | Errno::EAGAIN
            )
        )
    }

    /// A short, stable name for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Name(_) => "name_not_resolved",
            Self::Refused => "connection_refused",
            Self::Silent(_) => "connect_timeout",
            Self::Socket(_) | Self::Denied | Self::WrongType => "unix_socket_refused",
            Self::System(_) => "unreachable",
        }
    }
}

/// Connects to the first address that answers; the error is the last address's. `limit` is for
/// the name and for each address.
pub(crate) async fn connect(
    to: &HostPort,
    limit: Duration,
    on_close: OnClose,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut last = ConnectError::Name("it has no addresses".to_owned());
    for address in resolve(to, limit).await? {
        match timeout(limit, open(address, on_close)).await {
            Ok(Ok(stream)) => return Ok((stream, address)),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                last = ConnectError::Refused;
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {
                last = ConnectError::Silent(limit);
            }
            Ok(Err(error)) => last = ConnectError::System(error),
            Err(_) => last = ConnectError::Silent(limit),
        }
    }
    Err(last)
}

/// A connection to an address. Within one machine it is there at once, which the runtime would
/// only hear of later.
async fn open(address: SocketAddr, on_close: OnClose) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    settle(&socket, address);
    if on_close == OnClose::Reset {
        on_close.set(&SockRef::from(&socket))?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => return Err(error),
        _ => {}
    }
    let connected = socket.peer_addr().is_ok();
    let stream = TcpStream::from_std(socket.into())?;
    if !connected {
        stream.writable().await?;
    }
    match stream.take_error()? {
        Some(error) => Err(error),
        None => Ok(stream),
    }
}

async fn resolve(to: &HostPort, limit: Duration) -> Result<Vec<SocketAddr>, ConnectError> {
    let name = match to.host() {
        Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, to.port())]),
        Host::Name(name) => name,
    };
    match timeout(limit, tokio::net::lookup_host((name.as_str(), to.port()))).await {
        Ok(Ok(addresses)) => Ok(addresses.take(MAX_ADDRESSES).collect()),
        Ok(Err(error)) => Err(ConnectError::Name(error.to_string())),
        Err(_) => Err(ConnectError::Name(format!(
            "no answer within {} s",
            limit.as_secs()
        ))),
    }
}
