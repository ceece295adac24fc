use std::{sync::Arc, time::Duration};

use renkei_runtime::drain::Drain;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::*;
use crate::testing::{settle, within};

const LONG: Duration = Duration::from_secs(3600);

type Held = (OwnedSemaphorePermit, DrainGuard);

/// Hands the connections to the test.
struct Taking {
    places: Arc<Semaphore>,
    taken: mpsc::UnboundedSender<(TcpStream, Held)>,
}

impl ConnectionHandler for Taking {
    type Place = OwnedSemaphorePermit;

    async fn admit(&self, _peer: SocketAddr) -> Option<OwnedSemaphorePermit> {
        self.places.clone().acquire_owned().await.ok()
    }

    fn handle(&self, stream: TcpStream, _peer: SocketAddr, held: Held) {
        let _ = self.taken.send((stream, held));
    }
}

struct Lab {
    listener: Listener,
    address: SocketAddr,
    taken: mpsc::UnboundedReceiver<(TcpStream, Held)>,
    drain: Drain,
}

impl Lab {
    async fn new(places: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, taken) = mpsc::unbounded_channel();
        let handler = Taking {
            places: Arc::new(Semaphore::new(places)),
            taken: sender,
        };
        let (drain, watch) = Drain::new();
        let kept = (watch, Supervisor::default());
        Self {
            listener: Listener::start(listener, "a listener".to_owned(), handler, kept),
            address,
            taken,
            drain,
        }
    }
}

#[tokio::test]
async fn the_next_connection_waits_for_a_place() {
    let mut lab = Lab::new(1).await;
    let _first = TcpStream::connect(lab.address).await.unwrap();
    let _second = TcpStream::connect(lab.address).await.unwrap();
    let first = within(lab.taken.recv()).await.unwrap();
    settle().await;
    assert!(lab.taken.try_recv().is_err());
    drop(first);
    let _second = within(lab.taken.recv()).await.unwrap();
}

#[tokio::test]
async fn once_it_is_closed_its_address_is_free_and_its_connections_live_on() {
    let mut lab = Lab::new(2).await;
    let _near = TcpStream::connect(lab.address).await.unwrap();
    let (mut far, _held) = within(lab.taken.recv()).await.unwrap();
    within(lab.listener.close()).await;
    TcpListener::bind(lab.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut far, b"still here")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_drain_waits_for_the_address_and_for_open_connections() {
    let mut lab = Lab::new(2).await;
    let _near = TcpStream::connect(lab.address).await.unwrap();
    let open = within(lab.taken.recv()).await.unwrap();
    lab.drain.begin();
    let watch = lab.drain.watch();
    crate::testing::until("the listener closes", || watch.open() == 1).await;
    TcpListener::bind(lab.address).await.unwrap();
    drop(open);
    assert_eq!(within(lab.drain.wait(LONG)).await.left, 0);
}
