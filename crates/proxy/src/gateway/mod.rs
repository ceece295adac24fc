//! The gateway: accepts connections from other sites, reads which server name they ask for, and
//! hands each to the part that answers.

mod client_hello;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod router;

use std::{net::SocketAddr, sync::Arc};

use renkei_runtime::drain::DrainGuard;
use tokio::net::{TcpListener, TcpStream};

use crate::{
    admission::Place,
    identity::Direction,
    sockets::{ConnectionHandler, Listener},
    tls::NO_SERVICE,
};

pub(crate) use router::Router;
pub use router::{DefaultHandler, Untouched};

/// A gateway that accepts until it is dropped. Its connections live on.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// As the site file has it.
    pub(crate) listen: SocketAddr,
    /// As the system has it, where the site file leaves it open.
    pub(crate) address: SocketAddr,
    listener: Listener,
}

impl Gateway {
    pub(crate) fn start(listener: TcpListener, listen: SocketAddr, router: Arc<Router>) -> Self {
        let address = listener.local_addr().unwrap_or(listen);
        let context = &router.context;
        let kept = (context.drain.clone(), context.tasks.clone());
        Self {
            listen,
            address,
            listener: Listener::start(listener, "gateway".to_owned(), router, kept),
        }
    }

    /// Closes the listener.
    pub(crate) async fn close(mut self) {
        self.listener.close().await;
    }
}

impl ConnectionHandler for Arc<Router> {
    type Place = Option<Place>;

    async fn place(&self) -> Option<Place> {
        self.admission.inbound().await
    }

    fn handle(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        (place, guard): (Option<Place>, DrainGuard),
    ) {
        let router = self.clone();
        let peer = router.hub.origin(peer);
        let Some(waiting) = router.admission.handshakes.enter(peer.ip()) else {
            let sentence = "too many connections from that address are in their handshake";
            let (direction, reason) = (Direction::Inbound, "too_many_handshakes");
            let refusals = &router.context.refusals;
            return refusals.record(direction, NO_SERVICE, peer.to_string(), reason, sentence);
        };
        tokio::spawn(async move {
            router.serve(stream, peer, (guard, waiting)).await;
            drop(place);
        });
    }
}
