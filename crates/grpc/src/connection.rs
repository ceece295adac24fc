//! Accepted connections: counted against their limits, with the calling process known from the
//! start.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, stream};
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use renkei_runtime::{
    accept::accept,
    process::{AttestError, Process},
    telemetry::Counted,
};
use tokio::net::{UnixListener, UnixStream};

use crate::{
    GrpcLimits,
    admitted_stream::{AdmittedStream, Closing},
    compat::LocalAuthority,
};

/// How long a connection stays open whose requests are all refused: long enough for its client to
/// send one.
const REFUSAL_TIME: Duration = Duration::from_secs(2);
/// Such connections at once, of one user and of all. Further ones are closed at once.
const REFUSALS_PER_USER: usize = 16;
const REFUSALS: usize = 256;

/// The process that opened a connection, if the kernel says which.
#[derive(Debug)]
pub struct Peer {
    process: Result<Process, AttestError>,
    /// Why every request of the connection is refused.
    refused: Option<&'static str>,
    streams: AtomicU32,
}

impl Peer {
    /// The process, or why the kernel does not say which.
    pub fn process(&self) -> Result<&Process, &AttestError> {
        self.process.as_ref()
    }

    pub(crate) fn refused(&self) -> Option<&'static str> {
        self.refused
    }

    /// A place for one more stream of the connection, of at most so many.
    pub(crate) fn take_stream(self: &Arc<Self>, most: u32) -> Option<StreamPlace> {
        let one_more = |open| (open < most).then_some(open + 1);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = self.streams.fetch_update(set, fetch, one_more);
        taken.is_ok().then(|| StreamPlace(self.clone()))
    }
}

/// The place of one stream.
#[derive(Debug)]
pub(crate) struct StreamPlace(Arc<Peer>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where connections are counted.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics {
    /// Connections that are open now.
    pub open: Gauge,
    /// Those refused for want of a place.
    pub refused: Counter,
    /// Requests refused for want of a stream.
    pub refused_streams: Counter,
}

/// A connection with its place, and counted where its requests are served.
type Connection = AdmittedStream<LocalAuthority<UnixStream>, Peer, (Place, Option<Counted>)>;

/// Admits connections within the limits.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    service: &'static str,
    limits: GrpcLimits,
    metrics: ConnectionMetrics,
    open: Places,
    /// Those on which every request is refused.
    refusals: Places,
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
            open: Places::default(),
            refusals: Places::default(),
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
        // A process that has already ended has no credentials any more and needs no answer.
        let uid = socket.peer_cred().ok()?.uid();
        let open = &self.metrics.open;
        let (most, of_user) = (self.limits.connections, self.limits.connections_per_user);
        let place = match self.open.take(uid, (most, of_user)) {
            Ok(place) => (place, None),
            Err(reason) => {
                self.refuse(uid);
                (
                    self.refusals
                        .take(uid, (REFUSALS, REFUSALS_PER_USER))
                        .ok()?,
                    Some(reason),
                )
            }
        };
        let (place, refused) = place;
        let peer = Arc::new(Peer {
            process: Process::peer_of(&socket),
            refused,
            streams: AtomicU32::new(0),
        });
        // A connection ends soon whose requests are all refused.
        let closes: Option<Closing> =
            refused.map(|_| Box::pin(tokio::time::sleep(REFUSAL_TIME)) as Closing);
        let open = refused.is_none().then(|| Counted::new(open));
        let socket = LocalAuthority::new(socket);
        Some(AdmittedStream::new(socket, peer, (place, open), closes))
    }

    fn refuse(&self, uid: u32) {
        let service = self.service;
        tracing::warn!(
            uid,
            "a connection to the {service} is refused: too many are open"
        );
        self.metrics.refused.inc();
    }
}

/// Connections of each user.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<Mutex<HashMap<u32, usize>>>);

impl Places {
    /// A place among so many of all users and so many of one, or why there is none.
    fn take(&self, uid: u32, (most, most_of_user): (usize, usize)) -> Result<Place, &'static str> {
        let mut open = lock(&self.0);
        let total: usize = open.values().sum();
        let of_user = open.get(&uid).copied().unwrap_or(0);
        if of_user >= most_of_user {
            return Err("too many connections of this user are open");
        }
        if total >= most {
            return Err("too many connections are open");
        }
        open.insert(uid, of_user + 1);
        Ok(Place {
            uid,
            of_users: self.clone(),
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection's share of the limits.
#[derive(Debug)]
pub(crate) struct Place {
    uid: u32,
    of_users: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.of_users.0);
        if let Some(count) = open.get_mut(&self.uid) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.uid);
            }
        }
    }
}
