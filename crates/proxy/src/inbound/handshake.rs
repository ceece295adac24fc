//! The TLS handshake at the gateway: which service is meant, who calls, and may they.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use renkei_site::{Protocol, ProxyPart, Service};
use renkei_spiffe::{
    Authorizer, Denied, Identities, Refusal, ServerSide, SpiffeId, TrustDomain, X509Svid,
    alert_in_clear, server_side,
};
use rustls::AlertDescription;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsStream, server::StartHandshake};

use super::{
    NO_SERVICE,
    hello::{self, Hello},
    linked::{self, Linked},
};
use crate::{
    credentials::Credentials,
    decision::Judge,
    kafka::{self, ALPN_KAFKA, ALPN_TCP},
    revocation,
    shared::{Desired, Shared},
    trunk::{ALPN_TRUNK, ALPN_TRUNK_KAFKA},
};

/// HTTP/1.1, as the world calls it (RFC 7301 6).
const ALPN_HTTP: &[u8] = b"http/1.1";
pub(super) const UNFINISHED: &str = "the peer did not finish its handshake";
/// How long a refused peer has to read its alert, and how much it may go on to send.
const ALERT_TIME: Duration = Duration::from_secs(2);
const ALERT_BYTES: u64 = 256 * 1024;

/// A caller that may reach the service.
pub(super) struct Admitted {
    pub(super) stream: TlsStream<TcpStream>,
    pub(super) caller: SpiffeId,
    pub(super) service: Service,
    /// The broker that is meant, if the service speaks Kafka and one was named.
    pub(super) node: Option<i32>,
    pub(super) credentials: Arc<Credentials>,
    /// The state under which it was admitted.
    pub(super) desired: Arc<Desired>,
}

/// What becomes of a connection.
pub(super) enum Greeting {
    /// Carried to the service.
    Admitted(Box<Admitted>),
    /// For another site, which this one relays for: its socket and what has come by it.
    Relayed(TcpStream, Bytes, TrustDomain),
    /// A site that this one relays for.
    Linked(Box<Linked>),
    /// For the bundle endpoint.
    Elsewhere(Box<StartHandshake<TcpStream>>),
    /// Closed; this was to be recorded.
    Refused(Rejection),
    /// The peer went away without having done anything.
    Gone,
}

/// A caller that was not admitted.
pub(super) struct Rejection {
    pub(super) service: String,
    pub(super) fault: Fault,
}

/// Why not.
pub(super) struct Fault {
    /// Who it proved or claimed to be.
    pub(super) peer: Option<SpiffeId>,
    pub(super) reason: &'static str,
    pub(super) sentence: String,
    /// The connection, if an alert is on its way.
    pub(super) stream: Option<TcpStream>,
}

impl Fault {
    pub(super) fn of(reason: &'static str, sentence: impl Into<String>) -> Self {
        Self {
            peer: None,
            reason,
            sentence: sentence.into(),
            stream: None,
        }
    }

    pub(super) fn unnamed(self) -> Greeting {
        Greeting::Refused(Rejection {
            service: NO_SERVICE.to_owned(),
            fault: self,
        })
    }
}

pub(super) async fn greet(
    stream: TcpStream,
    peer: SocketAddr,
    flow: u64,
    shared: &Arc<Shared>,
) -> Greeting {
    let limit = shared.limits.handshake_time;
    match timeout(limit, hello::read(stream, peer)).await {
        Ok(Ok(hello)) => answer(hello, peer, flow, shared).await,
        Ok(Err(greeting)) => greeting,
        Err(_) => Fault::of("handshake_timeout", UNFINISHED).unnamed(),
    }
}

/// Whoever the name is for answers; without one that is known, the bundle endpoint.
async fn answer(hello: Hello, peer: SocketAddr, flow: u64, shared: &Arc<Shared>) -> Greeting {
    let Hello { start, bytes } = hello;
    if let Some(meant) = service_of(&start, shared) {
        return admit(start, meant, peer, flow, shared).await;
    }
    let Some(desired) = shared.desired.load_full() else {
        return Greeting::Elsewhere(Box::new(start));
    };
    let name = start.client_hello().server_name().map(str::to_owned);
    if let Some(site) = name.and_then(|name| desired.site.relayed_by_sni(&name).cloned()) {
        return Greeting::Relayed(start.io, bytes, site);
    }
    if linked::is_meant(&start) {
        return match linked::finish(start, desired, shared).await {
            Ok(linked) => Greeting::Linked(Box::new(linked)),
            Err(fault) => fault.unnamed(),
        };
    }
    Greeting::Elsewhere(Box::new(start))
}

/// What a caller asks for.
struct Meant {
    desired: Arc<Desired>,
    service: Service,
    node: Option<i32>,
}

fn service_of(start: &StartHandshake<TcpStream>, shared: &Shared) -> Option<Meant> {
    let desired = shared.desired.load_full()?;
    let hello = start.client_hello();
    let sni = hello.server_name()?;
    let (service, node) = match desired.site.service_by_sni(sni) {
        Some(service) => (service.clone(), None),
        None => {
            let (node, sni) = kafka::parse_server_name(sni)?;
            let service = desired.site.service_by_sni(sni)?;
            if service.protocol != Protocol::Kafka {
                return None;
            }
            (service.clone(), Some(node))
        }
    };
    Some(Meant {
        desired,
        service,
        node,
    })
}

/// Tells the caller's proxy what is spoken inside, if it asked; others are not bothered, since a
/// choice of nothing would end their handshake (RFC 7301 3.2).
fn protocol_of(start: &StartHandshake<TcpStream>, service: &Service) -> Option<&'static [u8]> {
    let own: &[&'static [u8]] = match service.protocol {
        Protocol::Kafka => &[ALPN_TRUNK_KAFKA, ALPN_KAFKA],
        Protocol::Tcp => &[ALPN_TRUNK, ALPN_TCP],
        // For the caller's proxy its bytes are bytes; others may speak of it by its name.
        Protocol::Http => &[ALPN_TRUNK, ALPN_TCP, ALPN_HTTP],
    };
    let offered: Vec<&[u8]> = start.client_hello().alpn()?.collect();
    own.iter().find(|name| offered.contains(name)).copied()
}

async fn admit(
    start: StartHandshake<TcpStream>,
    meant: Meant,
    peer: SocketAddr,
    flow: u64,
    shared: &Arc<Shared>,
) -> Greeting {
    let service = meant.service.name.clone();
    match finish(start, meant, peer, flow, shared).await {
        Ok(admitted) => Greeting::Admitted(Box::new(admitted)),
        Err(fault) => Greeting::Refused(Rejection { service, fault }),
    }
}

/// What this side goes into a handshake with.
pub(super) struct Ready {
    pub(super) svid: Arc<X509Svid>,
    pub(super) identities: Arc<Identities>,
    pub(super) side: ServerSide,
}

impl Ready {
    /// As `own`, for those whom `judge` lets in.
    pub(super) fn new(
        own: &SpiffeId,
        judge: impl Authorizer + 'static,
        alpn: &[&[u8]],
        shared: &Shared,
    ) -> Result<Self, Fault> {
        let svid = shared
            .svid(own)
            .map_err(|fault| Fault::of(fault.label(), fault.to_string()))?;
        let identities = shared.identities();
        let bundles = identities.bundles.clone();
        let side = server_side(&shared.provider, &svid, bundles, Arc::new(judge), alpn)
            .map_err(|error| Fault::of("tls", format!("TLS cannot be set up: {error}")))?;
        Ok(Self {
            svid,
            identities,
            side,
        })
    }
}

fn prepare(
    start: &StartHandshake<TcpStream>,
    meant: &Meant,
    (peer, flow): (SocketAddr, u64),
    shared: &Shared,
) -> Result<Ready, Fault> {
    let (desired, service) = (&meant.desired, &meant.service);
    let policy = desired
        .policies
        .get(&service.name)
        .cloned()
        .ok_or_else(|| Fault::of("no_policy", format!("{} has no policy", service.name)))?;
    let judge = Neighbours {
        site: desired.site.clone(),
        judge: Judge::new(policy, service.id.clone(), peer.ip().to_canonical(), flow),
    };
    let alpn = protocol_of(start, service);
    Ready::new(&service.id, judge, alpn.as_slice(), shared)
}

/// This side cannot begin its handshake. The alert says that the peer is not the reason.
pub(super) async fn give_up(start: StartHandshake<TcpStream>, mut fault: Fault) -> Fault {
    let mut stream = start.io;
    let alert = alert_in_clear(AlertDescription::InternalError);
    // An error means that the peer has gone.
    fault.stream = stream.write_all(&alert).await.ok().map(|()| stream);
    fault
}

async fn finish(
    start: StartHandshake<TcpStream>,
    meant: Meant,
    peer: SocketAddr,
    flow: u64,
    shared: &Arc<Shared>,
) -> Result<Admitted, Fault> {
    let Ready {
        svid,
        identities,
        side,
    } = match prepare(&start, &meant, (peer, flow), shared) {
        Ok(ready) => ready,
        Err(fault) => return Err(give_up(start, fault).await),
    };
    let Meant {
        desired,
        service,
        node,
    } = meant;
    let handshake = start.into_stream(side.config).into_fallible();
    let stream = timeout(shared.limits.handshake_time, handshake)
        .await
        .map_err(|_| Fault::of("handshake_timeout", UNFINISHED))?
        .map_err(|(error, stream)| explain(side.outcome.refusal(&error), &error, stream))?;
    let caller = side
        .outcome
        .peer()
        .ok_or_else(|| Fault::of("no_certificate", "the peer has no identity"))?;
    let credentials = shared
        .credentials(svid, stream.get_ref().1, identities)
        .map_err(|error| Fault::of(error.label(), error.to_string()))?;
    Ok(Admitted {
        stream: stream.into(),
        caller,
        service,
        node,
        credentials,
        desired,
    })
}

/// Lets in whom the policy allows, of the sites that this one is linked with.
#[derive(Debug)]
struct Neighbours {
    site: Arc<ProxyPart>,
    judge: Judge,
}

impl Authorizer for Neighbours {
    fn authorize(&self, peer: &SpiffeId) -> Result<(), Denied> {
        revocation::check_linked(&self.site, peer)?;
        self.judge.authorize(peer)
    }
}

/// Why a handshake failed: by our refusal, by the peer's, or by what came over the line.
pub(super) fn explain(refusal: Option<Refusal>, error: &io::Error, stream: TcpStream) -> Fault {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let mut fault = match (refusal, tls) {
        (Some(refusal), _) => {
            let peer = refusal.peer().cloned();
            Fault {
                peer,
                ..Fault::of(refusal.label(), refusal.to_string())
            }
        }
        (None, Some(rustls::Error::AlertReceived(AlertDescription::UnknownCA))) => {
            Fault::of("peer_refused", "the peer does not trust this site's CA")
        }
        (None, Some(rustls::Error::AlertReceived(alert))) => {
            let sentence = format!("the peer closed the handshake with the TLS alert {alert:?}");
            Fault::of("peer_refused", sentence)
        }
        (None, Some(error)) => Fault::of("bad_handshake", format!("the handshake failed: {error}")),
        (None, None) => Fault::of(
            "peer_closed",
            format!("the peer closed during the handshake: {error}"),
        ),
    };
    fault.stream = Some(stream);
    fault
}

/// Closing at once, with bytes of the peer still unread, would reset the connection before the
/// peer has read why it was refused.
pub(super) async fn let_read_alert(mut stream: TcpStream) {
    let _ = timeout(ALERT_TIME, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(ALERT_BYTES), &mut tokio::io::sink()).await
    })
    .await;
}
