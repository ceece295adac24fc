//! Trunks between two sites of one process: who dials their lanes and who accepts them.

use std::{
    marker::PhantomData,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::{Accepted, Site, connect, within};
use crate::{
    context::Context,
    identity::{Direction, Pair},
    trunk::{Acceptor, Connector, DialError, LaneConnection, LaneDialer, TrunkEvents},
};

/// Dials lanes to a site in the same process; the test gets the callee's ends.
pub(crate) struct Dialer<E> {
    pair: Pair,
    ends: (Arc<Context>, Arc<Context>),
    protocols: &'static [&'static [u8]],
    accepted: mpsc::UnboundedSender<Accepted>,
    refusing: AtomicBool,
    dialled: AtomicUsize,
    /// The sockets of all lanes, to cut them.
    sockets: Mutex<Vec<socket2::Socket>>,
    error: PhantomData<fn() -> E>,
}

impl<E> Dialer<E> {
    pub(crate) fn new(
        pair: &Pair,
        (caller, callee): (&Site, &Site),
        protocols: &'static [&'static [u8]],
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Accepted>) {
        let (accepted, lanes) = mpsc::unbounded_channel();
        let dialer = Arc::new(Self {
            pair: pair.clone(),
            ends: (caller.context.clone(), callee.context.clone()),
            protocols,
            accepted,
            refusing: AtomicBool::new(false),
            dialled: AtomicUsize::new(0),
            sockets: Mutex::default(),
            error: PhantomData,
        });
        (dialer, lanes)
    }

    /// From now on attempts fail, or succeed again.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::SeqCst);
    }

    /// Attempts so far.
    pub(crate) fn dialled(&self) -> usize {
        self.dialled.load(Ordering::SeqCst)
    }

    /// Breaks every connection.
    pub(crate) fn cut(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            // It may have ended already.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl<E: DialError> LaneDialer for Dialer<E> {
    type Error = E;

    fn dial(&self) -> BoxFuture<'_, Result<LaneConnection, E>> {
        Box::pin(async {
            self.dialled.fetch_add(1, Ordering::SeqCst);
            if self.refusing.load(Ordering::SeqCst) {
                return Err(E::no_trunks());
            }
            let ends = (&*self.ends.0, &*self.ends.1);
            let (lane, accepted, socket) = connect(&self.pair, ends, self.protocols).await;
            self.sockets.lock().unwrap().push(socket);
            // The test may take no more lanes.
            let _ = self.accepted.send(accepted);
            Ok(lane)
        })
    }

    fn is_lane(&self, _alpn: Option<&[u8]>) -> bool {
        true
    }

    fn failed(&self, _error: &E) {}
}

/// Takes lanes as long as they come; gives the events of each new trunk.
pub(crate) fn accept_lanes(
    acceptor: Arc<Acceptor>,
    pair: &Pair,
    mut lanes: mpsc::UnboundedReceiver<Accepted>,
) -> mpsc::UnboundedReceiver<TrunkEvents> {
    let (trunks, new) = mpsc::unbounded_channel();
    let pair = Pair {
        direction: Direction::Inbound,
        ..pair.clone()
    };
    tokio::spawn(async move {
        while let Some(Accepted {
            connection,
            credentials,
        }) = lanes.recv().await
        {
            // A lane that breaks at once is dialled again.
            let Ok((lane, events)) = acceptor.join(connection, credentials, &pair).await else {
                continue;
            };
            tokio::spawn(lane.run());
            if let Some(events) = events {
                let _ = trunks.send(events);
            }
        }
    });
    new
}

/// A trunk that is kept, with the events of both ends: the caller's first.
pub(crate) async fn trunk<E: DialError>(
    connector: &Connector,
    pair: &Pair,
    dialer: &Arc<Dialer<E>>,
    accepted: &mut mpsc::UnboundedReceiver<TrunkEvents>,
) -> (TrunkEvents, TrunkEvents) {
    let kept = within(connector.keep(pair, dialer)).await;
    let (own, _) = kept.expect("a trunk");
    (own, within(accepted.recv()).await.expect("a trunk"))
}
