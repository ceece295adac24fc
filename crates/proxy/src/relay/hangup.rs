//! A reset that comes behind an end of file. Nothing reads the socket any more, and while nothing
//! is written to it either, only an error event of the kernel tells of the reset.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Sleep, sleep},
};

/// Most connections are over soon after their first end of file. Only those that stay half-open
/// are watched, which takes a second descriptor of the socket.
const SETTLING: Duration = Duration::from_secs(1);

/// Watches a socket whose receiving direction has ended.
#[derive(Default)]
pub(crate) enum Hangup {
    #[default]
    Idle,
    Settling(Pin<Box<Sleep>>),
    Watching(Pin<Box<dyn Future<Output = ()> + Send + Sync>>),
}

impl Hangup {
    /// Ready when the connection has broken.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, stream: &TcpStream) -> Poll<io::Error> {
        loop {
            match self {
                Self::Idle => *self = Self::Settling(Box::pin(sleep(SETTLING))),
                Self::Settling(settling) => {
                    ready!(settling.as_mut().poll(cx));
                    // Without a descriptor that is free, it is tried again later.
                    *self = watch(stream).unwrap_or_default();
                }
                Self::Watching(broken) => {
                    ready!(broken.as_mut().poll(cx));
                    *self = Self::Idle;
                    let error = stream.take_error().ok().flatten();
                    return Poll::Ready(error.unwrap_or(io::ErrorKind::ConnectionReset.into()));
                }
            }
        }
    }
}

/// The runtime's own registration of the socket tells of errors only to futures that borrow it.
fn watch(stream: &TcpStream) -> io::Result<Hangup> {
    let socket = SockRef::from(stream).try_clone()?;
    let socket = TcpStream::from_std(socket.into())?;
    Ok(Hangup::Watching(Box::pin(async move {
        // An error means that the runtime ends, and the connection with it.
        let _ = socket.ready(Interest::ERROR).await;
    })))
}

impl std::fmt::Debug for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self {
            Self::Idle => "Idle",
            Self::Settling(_) => "Settling",
            Self::Watching(_) => "Watching",
        };
        f.write_str(state)
    }
}
