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
    admission::{Place, Source},
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
    type Place = (Source, Place);

    async fn admit(&self, peer: SocketAddr) -> Option<(Source, Place)> {
        let source = self.hub.source(peer);
        match self.admission.arrival(&source) {
            Ok(place) => Some((source, place)),
            Err(denied) => {
                self.refuse(NO_SERVICE, &source, &denied);
                None
            }
        }
    }

    fn handle(
        &self,
        stream: TcpStream,
        _peer: SocketAddr,
        ((source, arrival), guard): ((Source, Place), DrainGuard),
    ) {
        let router = self.clone();
        tokio::spawn(async move { router.serve(stream, source, (guard, arrival)).await });
    }
}
