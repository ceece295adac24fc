//! A reset that comes behind an end of file. Nothing reads the socket any more, and while nothing
//! is written to it either, only an error event of the kernel shows the reset.

use std::{
    future::Future,
    io,
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpStream, UnixStream},
    time::{Sleep, sleep},
};

/// Most connections are over soon after their first end of file. Only those that stay half-open
/// are watched, which takes a second descriptor of the socket.
const SETTLING: Duration = Duration::from_secs(1);

/// A socket that may break.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Breakable<'a> {
    /// The kernel has an event for it.
    Tcp(&'a TcpStream),
    /// The kernel has an event for the close of the other end, and an error if that broke off.
    Unix(&'a UnixStream),
}

/// Watches a socket whose receiving direction has ended.
#[derive(Default)]
pub(crate) enum Hangup {
    #[default]
    Idle,
    Settling(Pin<Box<Sleep>>),
    Watching(Pin<Box<dyn Future<Output = ()> + Send + Sync>>),
    /// The other end is closed, which is no reset.
    Over,
}

impl Hangup {
    /// Ready when the connection has broken.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, socket: Breakable<'_>) -> Poll<io::Error> {
        loop {
            match self {
                Self::Idle => *self = Self::Settling(Box::pin(sleep(SETTLING))),
                Self::Settling(settling) => {
                    ready!(settling.as_mut().poll(cx));
                    // Without a descriptor that is free, it is tried again later.
                    *self = watch(socket).unwrap_or_default();
                }
                Self::Watching(broken) => {
                    ready!(broken.as_mut().poll(cx));
                    *self = Self::Idle;
                    let (error, is_unix) = match socket {
                        Breakable::Tcp(stream) => (stream.take_error(), false),
                        Breakable::Unix(stream) => (stream.take_error(), true),
                    };
                    let error = error.ok().flatten();
                    if error.is_none() && is_unix {
                        *self = Self::Over;
                        return Poll::Pending;
                    }
                    return Poll::Ready(error.unwrap_or(io::ErrorKind::ConnectionReset.into()));
                }
                Self::Over => return Poll::Pending,
            }
        }
    }
}

/// The runtime's own registration of the socket reports errors only to futures that borrow it.
fn watch(socket: Breakable<'_>) -> io::Result<Hangup> {
    let broken: Pin<Box<dyn Future<Output = ()> + Send + Sync>> = match socket {
        Breakable::Tcp(stream) => {
            let socket = SockRef::from(stream).try_clone()?;
            let socket = TcpStream::from_std(socket.into())?;
            Box::pin(async move {
                // An error means that the runtime ends, and the connection with it.
                let _ = socket.ready(Interest::ERROR).await;
            })
        }
        Breakable::Unix(stream) => {
            let socket = closed(SockRef::from(stream).try_clone()?.into())?;
            Box::pin(async move {
                let _ = socket.ready(Interest::PRIORITY).await;
            })
        }
    };
    Ok(Hangup::Watching(broken))
}

/// Ready when the other end of a unix socket is closed (EPOLLHUP, which the runtime takes for the
/// end of urgent data). With an interest in anything else it would tell of the end of file as well.
#[expect(
    unsafe_code,
    reason = "the runtime's own unix sockets are always registered for reading and writing"
)]
fn closed(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is open, is always the same, and is closed with its owner, the result.
    Ok(unsafe { AsyncFd::register_with_interest(socket, Interest::PRIORITY) }?)
}

impl std::fmt::Debug for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self {
            Self::Idle => "Idle",
            Self::Settling(_) => "Settling",
            Self::Watching(_) => "Watching",
            Self::Over => "Over",
        };
        f.write_str(state)
    }
}
