//! Connecting to a unix socket. Its permissions are checked each time: as long as every user of the
//! machine can connect to it, a service behind it is not behind the mesh.

use std::{io, path::Path, time::Duration};

use nix::errno::Errno;
use renkei_runtime::{
    exposure::{SocketFault, judge_socket},
    files::{self, Budget},
};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::{
    net::UnixStream,
    time::{Instant, sleep},
};

use super::ConnectError;

/// Pauses between attempts at a socket whose queue is full: no event says when it is not.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Connects to the socket at `path`. `limit` is for the file system, and for the wait while more
/// connections wait to be accepted than the listener has room for.
pub(super) async fn connect(path: &Path, limit: Duration) -> Result<UnixStream, ConnectError> {
    let end = Instant::now() + limit;
    let mut pause = FIRST_PAUSE;
    loop {
        match open(path, limit) {
            // unix(7), connect(2): a socket that does not wait says so when the queue is full.
            Err(ConnectError::System(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() + pause > end {
                    return Err(ConnectError::Silent(limit));
                }
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// One attempt. A path may lead to a mount that does not answer.
fn open(path: &Path, limit: Duration) -> Result<UnixStream, ConnectError> {
    let owned = path.to_owned();
    let work = move || {
        if let Err(fault) = judge_socket(&owned) {
            return Ok(Err(fault));
        }
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
        socket.connect(&SockAddr::unix(&owned)?)?;
        Ok(Ok(socket))
    };
    let opened = match files::run_within(limit, Budget::Folder, path, work) {
        Ok(opened) => opened,
        Err(error) => return Err(explain(error, limit)),
    };
    match opened {
        Ok(socket) => UnixStream::from_std(socket.into()).map_err(ConnectError::System),
        Err(fault) => Err(ConnectError::Socket(fault)),
    }
}

fn explain(error: io::Error, limit: Duration) -> ConnectError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused,
        io::ErrorKind::TimedOut => ConnectError::Silent(limit),
        io::ErrorKind::NotFound => ConnectError::Socket(SocketFault::Missing),
        io::ErrorKind::PermissionDenied => ConnectError::Denied,
        // Of another type, such as datagram.
        _ if error.raw_os_error() == Some(Errno::EPROTOTYPE as i32) => ConnectError::WrongType,
        _ => ConnectError::System(error),
    }
}
