//! Accepted connections: counted against their limits, with the calling process known from the
//! start.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use futures_util::{Stream, stream};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use renkei_runtime::{
    accept::accept,
    process::{AttestError, Process},
    telemetry::LineBudget,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{UnixListener, UnixStream},
};
use tonic::transport::server::Connected;

use crate::{GrpcLimits, compat::LocalAuthority};

/// The process that opened a connection, if the kernel says which.
#[derive(Debug)]
pub struct Peer(Result<Process, AttestError>);

impl Peer {
    /// The process, or why it cannot be told.
    pub fn process(&self) -> Result<&Process, &AttestError> {
        self.0.as_ref()
    }
}

/// Where connections are counted.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics {
    /// Connections that are open now.
    pub open: Gauge,
    /// Those refused for want of a place.
    pub refused: Counter,
}

/// Admits connections within the limits.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    service: &'static str,
    limits: GrpcLimits,
    metrics: ConnectionMetrics,
    open: Arc<Mutex<HashMap<u32, usize>>>,
    /// Of the refused ones.
    lines: Arc<Mutex<LineBudget>>,
}

impl Connections {
    pub(crate) fn new(
        service: &'static str,
        limits: GrpcLimits,
        metrics: ConnectionMetrics,
    ) -> Self {
        Self {
            service,
            limits,
            metrics,
            open: Arc::default(),
            lines: Arc::default(),
        }
    }

    /// The admitted connections of a listener; never ends.
    pub(crate) fn accept(
        self,
        listener: &UnixListener,
    ) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, async move |connections| {
            loop {
                let service = connections.service;
                let (socket, _) = accept(service, || listener.accept()).await;
                if let Some(connection) = connections.admit(socket) {
                    return Some((Ok(connection), connections));
                }
            }
        })
    }

    fn admit(&self, socket: UnixStream) -> Option<Connection> {
        // Whoever has already left has no credentials any more and needs no answer.
        let uid = socket.peer_cred().ok()?.uid();
        let Some(place) = self.take_place(uid) else {
            if let Some(left_out) = lock(&self.lines).take(Instant::now()) {
                let service = self.service;
                tracing::warn!(
                    uid,
                    left_out,
                    "a connection to the {service} is refused: too many are open"
                );
            }
            self.metrics.refused.inc();
            return None;
        };
        let peer = Arc::new(Peer(Process::peer_of(&socket)));
        Some(Connection {
            socket: LocalAuthority::new(socket),
            peer,
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
        self.metrics.open.inc();
        Some(Place {
            uid,
            of_users: Arc::clone(&self.open),
            open: self.metrics.open.clone(),
        })
    }
}

fn lock<T>(held: &Mutex<T>) -> MutexGuard<'_, T> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection's share of the limits.
#[derive(Debug)]
struct Place {
    uid: u32,
    of_users: Arc<Mutex<HashMap<u32, usize>>>,
    open: Gauge,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
        let mut open = lock(&self.of_users);
        if let Some(count) = open.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    socket: LocalAuthority<UnixStream>,
    peer: Arc<Peer>,
    _place: Place,
}

impl Connected for Connection {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Self::ConnectInfo {
        Arc::clone(&self.peer)
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
