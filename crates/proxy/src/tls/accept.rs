//! The handshake of a connection from another site, of which the ClientHello has come.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use renkei_spiffe::{
    Authorizer, HandshakeRefusal, Identities, ServerSide, SpiffeId, X509Svid, alert_in_clear,
    server_side,
};
use rustls::{
    AlertDescription,
    server::{Accepted, ClientHello},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    admission::Source,
    context::Context,
    identity::{Credentials, Direction},
    record::{self, HandshakeError, TlsConnection},
};

/// The name under which refusals for no known service are counted: what peers write there is
/// theirs, and must not fill this side's counters.
pub(crate) const NO_SERVICE: &str = "-";
/// What is said of a peer whose handshake takes too long.
pub(crate) const UNFINISHED: &str = "the peer did not finish its handshake";
/// How long a refused peer has to read its alert, and how much it may still send.
const ALERT_TIME: Duration = Duration::from_secs(2);
const ALERT_BYTES: u64 = 256 * 1024;

/// A connection whose ClientHello has come, and has not been answered.
pub(crate) struct PendingHandshake {
    pub(crate) accepted: Accepted,
    pub(crate) tcp: TcpStream,
    /// All that the peer has sent so far.
    pub(crate) received: Bytes,
}

impl PendingHandshake {
    /// What the peer asks for.
    pub(crate) fn client_hello(&self) -> ClientHello<'_> {
        self.accepted.client_hello()
    }
}

/// A connection whose peer has proved its identity and is authorized.
pub(crate) struct Verified {
    pub(crate) connection: TlsConnection,
    pub(crate) peer: SpiffeId,
    pub(crate) credentials: Arc<Credentials>,
}

/// Why a connection was not let in.
pub(crate) struct HandshakeFault {
    /// Who it proved or claimed to be.
    peer: Option<SpiffeId>,
    /// A short, stable name for metrics.
    reason: &'static str,
    sentence: String,
    /// The connection, if an alert is on its way.
    stream: Option<TcpStream>,
}

impl HandshakeFault {
    pub(crate) fn new(reason: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            peer: None,
            reason,
            sentence: sentence.into(),
            stream: None,
        }
    }

    /// The same with the connection, on which an alert is on its way.
    pub(crate) fn with_alert(self, stream: TcpStream) -> Self {
        Self {
            stream: Some(stream),
            ..self
        }
    }

    /// Why a handshake failed: by our refusal, by the peer's, or by what came over the line.
    fn of(refusal: Option<HandshakeRefusal>, error: &io::Error, stream: TcpStream) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let fault = match (refusal, tls) {
            (Some(refusal), _) => Self {
                peer: refusal.peer().cloned(),
                ..Self::new(refusal.label(), refusal.to_string())
            },
            (None, Some(rustls::Error::AlertReceived(AlertDescription::UnknownCA))) => {
                Self::new("peer_refused", "the peer does not trust this site's CA")
            }
            (None, Some(rustls::Error::AlertReceived(alert))) => {
                let sentence =
                    format!("the peer closed the handshake with the TLS alert {alert:?}");
                Self::new("peer_refused", sentence)
            }
            (None, Some(error)) => {
                Self::new("bad_handshake", format!("the handshake failed: {error}"))
            }
            (None, None) => Self::new(
                "peer_closed",
                format!("the peer closed during the handshake: {error}"),
            ),
        };
        fault.with_alert(stream)
    }

    /// Counts the refusal, and gives the peer time to read its alert.
    pub(crate) async fn conclude(self, service: &str, from: &Source, context: &Context) {
        let who = self
            .peer
            .map_or_else(|| from.to_string(), |peer| peer.short());
        let (direction, reason) = (Direction::Inbound, self.reason);
        let refusals = &context.refusals;
        refusals.record(direction, service, who, reason, self.sentence);
        if let Some(stream) = self.stream {
            tokio::select! {
                () = context.drain.forced() => {}
                () = let_read_alert(stream) => {}
            }
        }
    }
}

/// What this side goes into a handshake with.
struct Ready {
    svid: Arc<X509Svid>,
    identities: Arc<Identities>,
    side: ServerSide,
}

fn prepare(
    own: &SpiffeId,
    authorizer: Arc<dyn Authorizer>,
    protocols: &[&[u8]],
    context: &Context,
) -> Result<Ready, HandshakeFault> {
    let svid = context
        .svid(own)
        .map_err(|fault| HandshakeFault::new(fault.label(), fault.to_string()))?;
    let identities = context.identities();
    let bundles = identities.bundles.clone();
    let side = server_side(&context.provider, &svid, bundles, authorizer, protocols)
        .map_err(|error| HandshakeFault::new("tls", format!("TLS cannot be set up: {error}")))?;
    Ok(Ready {
        svid,
        identities,
        side,
    })
}

/// This side cannot begin its handshake. The alert says that the peer is not the reason.
pub(crate) async fn give_up(hello: PendingHandshake, fault: HandshakeFault) -> HandshakeFault {
    let mut stream = hello.tcp;
    let alert = alert_in_clear(AlertDescription::InternalError);
    match stream.write_all(&alert).await {
        Ok(()) => fault.with_alert(stream),
        // The peer has gone.
        Err(_) => fault,
    }
}

/// Finishes a handshake as `own`. The peer must be authorized.
pub(crate) async fn accept(
    hello: PendingHandshake,
    own: &SpiffeId,
    authorizer: Arc<dyn Authorizer>,
    protocols: &[&[u8]],
    context: &Context,
) -> Result<Verified, HandshakeFault> {
    let Ready {
        svid,
        identities,
        side,
    } = match prepare(own, authorizer, protocols, context) {
        Ok(ready) => ready,
        Err(fault) => return Err(give_up(hello, fault).await),
    };
    let PendingHandshake {
        accepted,
        tcp,
        received,
    } = hello;
    // rustls reads the ClientHello again, with the configuration that it has led to.
    drop(accepted);
    let handshake = record::accept(side.config, &received, tcp);
    let connection = timeout(context.limits.handshake_timeout, handshake)
        .await
        .map_err(|_| HandshakeFault::new("handshake_timeout", UNFINISHED))?
        .map_err(|HandshakeError { error, tcp }| {
            HandshakeFault::of(side.outcome.refusal(&error), &error, tcp)
        })?;
    let peer = side
        .outcome
        .peer()
        .ok_or_else(|| HandshakeFault::new("no_certificate", "the peer has no identity"))?;
    let credentials = context
        .credentials(svid, connection.peer_certificates(), identities)
        .map_err(|error| HandshakeFault::new(error.label(), error.to_string()))?;
    Ok(Verified {
        connection,
        peer,
        credentials,
    })
}

/// Closing at once, with bytes of the peer still unread, would reset the connection before the
/// peer has read why it was refused.
pub(crate) async fn let_read_alert(mut stream: TcpStream) {
    let _ = timeout(ALERT_TIME, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(ALERT_BYTES), &mut tokio::io::sink()).await
    })
    .await;
}
