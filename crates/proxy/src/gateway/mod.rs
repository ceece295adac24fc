//! The gateway: accepts connections from other sites, reads which server name they ask for, and
//! hands each to the part that answers.

mod client_hello;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod router;

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{identity::Direction, sockets, tls::NO_SERVICE};

pub(crate) use router::Router;
pub use router::{DefaultHandler, Untouched};

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
    pub(crate) fn start(listener: TcpListener, listen: SocketAddr, router: Arc<Router>) -> Self {
        let stop = CancellationToken::new();
        let address = listener.local_addr().unwrap_or(listen);
        let task = tokio::spawn(serve(listener, router, stop.clone()));
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

async fn serve(listener: TcpListener, router: Arc<Router>, stop: CancellationToken) {
    let open = router.context.drain.guard();
    let over = || stop.is_cancelled() || router.context.drain.is_signaled();
    let accept = || accept(&listener, &router, &stop);
    let tasks = router.context.tasks.clone();
    tasks.run("gateway".to_owned(), over, accept).await;
    // The address is free before the drain hears of it.
    drop(listener);
    drop(open);
}

async fn accept(listener: &TcpListener, router: &Arc<Router>, stop: &CancellationToken) {
    let ended = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = router.context.drain.signaled() => {}
        }
    };
    tokio::pin!(ended);
    loop {
        let next = async {
            let place = router.admission.inbound().await;
            (place, sockets::accept(listener).await)
        };
        let (place, (stream, peer)) = tokio::select! {
            biased;
            () = &mut ended => break,
            next = next => next,
        };
        let router = router.clone();
        let peer = router.hub.origin(peer);
        let guard = router.context.drain.guard();
        let Some(waiting) = router.admission.handshakes.enter(peer.ip()) else {
            let sentence = "too many connections from that address are in their handshake";
            let (direction, reason) = (Direction::Inbound, "too_many_handshakes");
            let refusals = &router.context.refusals;
            refusals.record(direction, NO_SERVICE, peer.to_string(), reason, sentence);
            continue;
        };
        tokio::spawn(async move {
            router.serve(stream, peer, (guard, waiting)).await;
            drop(place);
        });
    }
}
