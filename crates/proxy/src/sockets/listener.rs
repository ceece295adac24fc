//! A listener that accepts until it is closed or the process stops.

use std::net::SocketAddr;

use renkei_runtime::{
    accept,
    drain::{DrainGuard, DrainWatch},
    supervise::Supervisor,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::set_congestion;

/// Takes the connections of a listener.
pub(crate) trait ConnectionHandler: Send + Sync + 'static {
    /// A place among the open connections.
    type Place: Send;

    /// A place for a connection that was accepted from `peer`. The next one is accepted when it is
    /// ready. Without a place the connection is closed.
    fn admit(&self, peer: SocketAddr) -> impl Future<Output = Option<Self::Place>> + Send;

    /// Takes a connection, without waiting: the next one is accepted when it returns. The place
    /// and the guard are for as long as the connection is open.
    fn handle(&self, stream: TcpStream, peer: SocketAddr, held: (Self::Place, DrainGuard));
}

/// A listener that accepts until it is dropped. Its connections live on.
#[derive(Debug)]
pub(crate) struct Listener {
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Listener {
    /// `name` is that of its task.
    pub(crate) fn start(
        listener: TcpListener,
        name: String,
        handler: impl ConnectionHandler,
        kept: (DrainWatch, Supervisor),
    ) -> Self {
        let stop = CancellationToken::new();
        let serving = serve(listener, name, handler, kept, stop.clone());
        Self {
            stop,
            task: Some(tokio::spawn(serving)),
        }
    }

    /// Stops, and is ready when the address is free.
    pub(crate) async fn close(&mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // An error means that it has ended all the same.
            let _ = task.await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Accepts until `stop` fires or the process stops. The drain waits until the address is free.
pub(crate) async fn serve(
    listener: TcpListener,
    name: String,
    handler: impl ConnectionHandler,
    (drain, tasks): (DrainWatch, Supervisor),
    stop: CancellationToken,
) {
    let open = drain.guard();
    let over = || stop.is_cancelled() || drain.is_signaled();
    let accepting = || accept_all(&listener, &handler, &drain, &stop);
    tasks.run(name, over, accepting).await;
    drop(listener);
    drop(open);
}

async fn accept_all(
    listener: &TcpListener,
    handler: &impl ConnectionHandler,
    drain: &DrainWatch,
    stop: &CancellationToken,
) {
    let ended = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = drain.signaled() => {}
        }
    };
    tokio::pin!(ended);
    loop {
        let next = async {
            let (stream, peer) = accept(listener).await;
            (stream, peer, handler.admit(peer).await)
        };
        let (stream, peer, place) = tokio::select! {
            biased;
            () = &mut ended => return,
            next = next => next,
        };
        if let Some(place) = place {
            handler.handle(stream, peer, (place, drain.guard()));
        }
    }
}

/// The next connection. Errors of single connections are skipped; shortage is waited out.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (stream, peer) = accept::accept("connections", || listener.accept()).await;
    set_congestion(&SockRef::from(&stream), peer);
    (stream, peer)
}

#[cfg(test)]
mod tests;
