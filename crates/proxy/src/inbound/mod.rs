//! The gateway: connections from other sites to services of this one.

mod backend;
mod connection;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod handshake;
mod hello;
mod http;
mod linked;
mod turns;

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{flows::Direction, listener, shared::Shared};

pub(crate) use backend::Backends;
pub(crate) use turns::Turns;

/// The name under which refusals for no known service are counted: what peers write there is
/// theirs, and must not fill this side's counters.
const NO_SERVICE: &str = "-";

/// A gateway that accepts until it is dropped. Its connections live on.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// As the site file has it.
    pub(crate) listen: SocketAddr,
    /// As the system has it, where the site file leaves it open.
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Gateway {
    pub(crate) fn start(listener: TcpListener, listen: SocketAddr, shared: Arc<Shared>) -> Self {
        let stop = CancellationToken::new();
        let address = listener.local_addr().unwrap_or(listen);
        let task = tokio::spawn(serve(listener, shared, stop.clone()));
        Self {
            listen,
            address,
            stop,
            task: Some(task),
        }
    }

    /// Closes the listener.
    pub(crate) async fn close(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // An error means that it has ended all the same.
            let _ = task.await;
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    let open = shared.drain.guard();
    let over = || stop.is_cancelled() || shared.drain.is_signaled();
    let accept = || accept(&listener, &shared, &stop);
    let tasks = shared.tasks.clone();
    tasks.run("gateway".to_owned(), over, accept).await;
    // The address is free before the drain is told so.
    drop(listener);
    drop(open);
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>, stop: &CancellationToken) {
    let ended = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = shared.drain.signaled() => {}
        }
    };
    tokio::pin!(ended);
    loop {
        let next = async {
            let room = shared.inbound_room.clone().acquire_owned().await;
            (room, listener::accept(listener).await)
        };
        let (room, (stream, peer)) = tokio::select! {
            biased;
            () = &mut ended => break,
            next = next => next,
        };
        let shared = shared.clone();
        let peer = shared.arrivals.origin(peer);
        let guard = shared.drain.guard();
        let Some(place) = shared.turns.enter(peer.ip()) else {
            let sentence = "too many connections from that address are in their handshake";
            let (way, reason) = (Direction::Inbound, "too_many_handshakes");
            let refusals = &shared.refusals;
            refusals.record(way, NO_SERVICE, peer.to_string(), reason, sentence);
            continue;
        };
        tokio::spawn(async move {
            connection::run(stream, peer, shared, guard, place).await;
            drop(room);
        });
    }
}
