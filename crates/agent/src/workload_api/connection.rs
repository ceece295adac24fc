//! Accepted connections: counted against their bounds, with the caller known from the start.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::{Stream, stream};
use renkei_runtime::telemetry::LineBudget;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
};
use tonic::transport::server::Connected;

use super::{Limits, caller::Caller};
use crate::{
    AgentMetrics,
    authority::LocalAuthority,
    metrics::{Counted, Denial},
};

/// The wait after the system could not accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Admits connections within the bounds.
#[derive(Debug, Clone)]
pub(super) struct Connections {
    limits: Limits,
    metrics: AgentMetrics,
    open: Arc<Mutex<HashMap<u32, usize>>>,
    /// Of the refused ones.
    lines: Arc<Mutex<LineBudget>>,
}

impl Connections {
    pub(super) fn new(limits: Limits, metrics: AgentMetrics) -> Self {
        Self {
            limits,
            metrics,
            open: Arc::default(),
            lines: Arc::default(),
        }
    }

    /// The admitted connections of a listener; never ends.
    pub(super) fn accept(
        self,
        listener: &UnixListener,
    ) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, async move |connections| {
            loop {
                match listener.accept().await {
                    Ok((socket, _)) => {
                        if let Some(connection) = connections.admit(socket) {
                            return Some((Ok(connection), connections));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no Workload API connection can be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        })
    }

    fn admit(&self, socket: UnixStream) -> Option<Connection> {
        // Whoever has already left has no credentials any more and needs no answer.
        let uid = socket.peer_cred().ok()?.uid();
        let Some(place) = self.take_place(uid) else {
            if let Some(left_out) = lock(&self.lines).take(Instant::now()) {
                tracing::warn!(
                    uid,
                    left_out,
                    "a Workload API connection is refused: too many are open"
                );
            }
            self.metrics.denied(Denial::TooManyConnections);
            return None;
        };
        let caller = Arc::new(Caller::of(&socket));
        Some(Connection {
            socket: LocalAuthority::new(socket),
            caller,
            _place: place,
        })
    }

    fn take_place(&self, uid: u32) -> Option<Place> {
        let mut open = lock(&self.open);
        let total: usize = open.values().sum();
        let of_user = open.get(&uid).copied().unwrap_or(0);
        if total >= self.limits.connections || of_user >= self.limits.connections_per_user {
            return None;
        }
        open.insert(uid, of_user + 1);
        let counted = self.metrics.connection();
        Some(Place {
            uid,
            open: Arc::clone(&self.open),
            _counted: counted,
        })
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection's share of the bounds.
#[derive(Debug)]
struct Place {
    uid: u32,
    open: Arc<Mutex<HashMap<u32, usize>>>,
    _counted: Counted,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.open);
        if let Some(count) = open.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

/// One admitted connection.
#[derive(Debug)]
pub(super) struct Connection {
    socket: LocalAuthority<UnixStream>,
    caller: Arc<Caller>,
    _place: Place,
}

impl Connected for Connection {
    type ConnectInfo = Arc<Caller>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.caller)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
