//! Connections of the API: within their limits, and with the client known from the handshake on.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use renkei_grpc::{AdmittedStream, Closing};
use renkei_runtime::{accept::accept, shares::Network};
use renkei_spiffe::{Authorizer, BundleSet, Denied, Outcome, SpiffeId, TrustDomain};
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{Shared, places::Place};
use crate::nodes::PresentedSvid;

/// Finished handshakes that wait to be served.
const WAITING: usize = 64;
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a client may stay that is no node: it joins, or reads the bundle.
const STRANGER_TIME: Duration = Duration::from_secs(60);
const ALPN: [&[u8]; 1] = [b"h2"];

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) address: SocketAddr,
    /// The SVID that it proved, if it presented one.
    pub(super) svid: Option<PresentedSvid>,
}

/// A client's connection, while it has a place.
pub(super) type Connection = AdmittedStream<TlsStream<TcpStream>, Caller, Place>;

/// Admits connections within the limits.
#[derive(Clone)]
pub(super) struct Connections {
    shared: Arc<Shared>,
    /// Ends all of them.
    cut: CancellationToken,
}

/// Nodes are of this trust domain; what they may do is decided for each request.
#[derive(Debug)]
struct OwnDomain(TrustDomain);

impl Authorizer for OwnDomain {
    fn authorize(&self, peer: &SpiffeId) -> Result<(), Denied> {
        match *peer.trust_domain() == self.0 {
            true => Ok(()),
            false => Err(Denied {
                label: "foreign_trust_domain",
                reason: format!("{} is not of {}", peer.short(), self.0),
            }),
        }
    }
}

impl Connections {
    pub(super) fn new(shared: Arc<Shared>, cut: CancellationToken) -> Self {
        Self { shared, cut }
    }

    /// Connections whose handshake is done; never ends.
    pub(super) fn accept(
        self,
        listener: &TcpListener,
    ) -> impl Stream<Item = io::Result<Connection>> {
        let (ready, incoming) = mpsc::channel(WAITING);
        let first = (self, ready, incoming);
        stream::unfold(first, async move |(connections, ready, mut incoming)| {
            loop {
                tokio::select! {
                    Some(connection) = incoming.recv() => {
                        return Some((Ok(connection), (connections, ready, incoming)));
                    }
                    (stream, client) = accept("the server API", || listener.accept()) => {
                        connections.begin(stream, client, ready.clone());
                    }
                }
            }
        })
    }

    fn begin(&self, stream: TcpStream, client: SocketAddr, ready: mpsc::Sender<Connection>) {
        let places = &self.shared.places;
        let Ok(place) = places.stranger(Network::of(client.ip())) else {
            tracing::warn!(%client, "a connection to the server API is refused: too many are open");
            return;
        };
        let connections = self.clone();
        tokio::spawn(async move {
            let done = timeout(HANDSHAKE_TIME, connections.handshake(stream, client));
            match done.await {
                Ok(Ok((stream, caller))) => {
                    let connection = connections.connection(stream, caller, place);
                    // An error means that the server stops.
                    let _ = ready.send(connection).await;
                }
                Ok(Err(error)) => {
                    tracing::info!(%client, error, "a client of the server API is refused");
                }
                Err(_) => tracing::debug!(%client, "server API: the handshake took too long"),
            }
        });
    }

    /// A node gives its place among the strangers back.
    fn connection(&self, stream: TlsStream<TcpStream>, caller: Caller, place: Place) -> Connection {
        let (shared, cut) = (&self.shared, self.cut.clone());
        let node = caller.svid.as_ref();
        let node = node.filter(|svid| shared.check(svid).is_ok());
        let (is_node, place) = match node.map(|svid| shared.places.node(&svid.id)) {
            Some(Ok(place)) => (true, place),
            Some(Err(_)) | None => (false, place),
        };
        let closes: Closing = Box::pin(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                () = sleep(STRANGER_TIME), if !is_node => {}
            }
        });
        AdmittedStream::new(stream, Arc::new(caller), place, Some(closes))
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<(TlsStream<TcpStream>, Caller), String> {
        let (config, outcome) = self.tls()?;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "server API: TCP_NODELAY");
        }
        let accepted = TlsAcceptor::from(config).accept(stream).await;
        let stream = accepted.map_err(|error| match outcome.refusal(&error) {
            Some(refusal) => refusal.to_string(),
            None => error.to_string(),
        })?;
        let svid = match outcome.peer() {
            None => None,
            Some(_) => Some(presented(&stream)?),
        };
        Ok((stream, Caller { address, svid }))
    }

    /// SVIDs of nodes are judged by the own bundle alone.
    fn tls(&self) -> Result<(Arc<ServerConfig>, Outcome), String> {
        let parts = &self.shared.parts;
        let svid = self.shared.own.for_api((parts.clock)());
        let svid = svid.ok_or("the server has no SVID of its own yet")?;
        let mut bundles = BundleSet::default();
        if let Some(own) = parts.bundles.snapshot().get(&parts.trust_domain) {
            bundles.insert(own.clone());
        }
        let side = renkei_spiffe::server_side_for_anyone(
            &parts.provider,
            &svid,
            Arc::new(bundles),
            Arc::new(OwnDomain(parts.trust_domain.clone())),
            &ALPN,
        );
        let side = side.map_err(|error| error.to_string())?;
        Ok((side.config, side.outcome))
    }
}

fn presented(stream: &TlsStream<TcpStream>) -> Result<PresentedSvid, String> {
    let (_, tls) = stream.get_ref();
    let chain = tls.peer_certificates().unwrap_or_default();
    PresentedSvid::new(chain).map_err(|fault| fault.to_string())
}
