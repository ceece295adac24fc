//! The TLS handshake at the gateway: which service is meant, who calls, and may they.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use renkei_site::{Protocol, Service};
use renkei_spiffe::{SpiffeId, server_side};
use rustls::{AlertDescription, server::Acceptor};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{LazyConfigAcceptor, server::StartHandshake};

use super::NO_SERVICE;
use crate::{
    decision::Judge,
    kafka::{self, ALPN_KAFKA, ALPN_TCP},
    listener::keep_alive,
    shared::{Desired, Shared},
    wan::WanStream,
};

/// First byte of a TLS record that carries a handshake (RFC 8446 5.1).
const HANDSHAKE_RECORD: u8 = 0x16;
/// How long a refused peer has to read its alert, and how much it may go on to send.
const ALERT_TIME: Duration = Duration::from_secs(2);
const ALERT_BYTES: u64 = 256 * 1024;

/// A caller that may reach the service.
pub(super) struct Admitted {
    pub(super) stream: WanStream,
    pub(super) caller: SpiffeId,
    pub(super) service: Service,
    /// The broker that is meant, if the service speaks Kafka and one was named.
    pub(super) node: Option<i32>,
    pub(super) svid_not_after: OffsetDateTime,
    /// The state under which it was admitted.
    pub(super) desired: Arc<Desired>,
}

/// What becomes of a connection.
pub(super) enum Greeting {
    /// Carried to the service.
    Admitted(Box<Admitted>),
    /// For the bundle endpoint.
    Elsewhere(Box<StartHandshake<TcpStream>>),
    /// Closed; this was to be recorded.
    Refused(Rejection),
    /// The peer went away without having done anything.
    Gone,
}

/// Why a caller was not admitted.
pub(super) struct Rejection {
    pub(super) service: String,
    /// Who it proved or claimed to be.
    pub(super) peer: Option<SpiffeId>,
    pub(super) reason: &'static str,
    pub(super) sentence: String,
}

impl Rejection {
    fn unnamed(reason: &'static str, sentence: impl Into<String>) -> Greeting {
        let service = NO_SERVICE.to_owned();
        Greeting::Refused(Self {
            service,
            peer: None,
            reason,
            sentence: sentence.into(),
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
    match timeout(limit, hello(stream)).await {
        Ok(Ok(start)) => match service_of(&start, shared) {
            Some(meant) => admit(start, meant, peer, flow, shared).await,
            None => Greeting::Elsewhere(Box::new(start)),
        },
        Ok(Err(greeting)) => greeting,
        Err(_) => Rejection::unnamed("handshake_timeout", "the peer did not finish its handshake"),
    }
}

/// Reads the first message of TLS.
async fn hello(stream: TcpStream) -> Result<StartHandshake<TcpStream>, Greeting> {
    keep_alive(&stream);
    let mut first = [0];
    match stream.peek(&mut first).await {
        Ok(0) | Err(_) => return Err(Greeting::Gone),
        Ok(_) if first != [HANDSHAKE_RECORD] => {
            let sentence = "the peer speaks plaintext; the gateway speaks TLS only";
            return Err(Rejection::unnamed("plaintext", sentence));
        }
        Ok(_) => {}
    }
    LazyConfigAcceptor::new(Acceptor::default(), stream)
        .await
        .map_err(|error| Rejection::unnamed("bad_handshake", format!("no TLS handshake: {error}")))
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
    let own = match service.protocol {
        Protocol::Kafka => ALPN_KAFKA,
        Protocol::Tcp => ALPN_TCP,
    };
    let offered = start.client_hello().alpn()?.any(|name| name == own);
    offered.then_some(own)
}

async fn admit(
    start: StartHandshake<TcpStream>,
    Meant {
        desired,
        service,
        node,
    }: Meant,
    peer: SocketAddr,
    flow: u64,
    shared: &Arc<Shared>,
) -> Greeting {
    let refused = |peer, reason, sentence: String| {
        let service = service.name.clone();
        Greeting::Refused(Rejection {
            service,
            peer,
            reason,
            sentence,
        })
    };
    let Some(policy) = desired.policies.get(&service.name).cloned() else {
        return refused(None, "no_policy", format!("{} has no policy", service.name));
    };
    let Some(svid) = shared.svid(&service.id) else {
        return refused(
            None,
            "no_identity",
            format!("{} has no identity yet", service.id.short()),
        );
    };
    let judge = Judge::new(policy, service.id.clone(), peer.ip().to_canonical(), flow);
    let bundles = shared.identities().bundles.clone();
    let alpn = protocol_of(&start, &service);
    let judge = Arc::new(judge);
    let side = match server_side(&shared.provider, &svid, bundles, judge, alpn.as_slice()) {
        Ok(side) => side,
        Err(error) => return refused(None, "tls", format!("TLS cannot be set up: {error}")),
    };
    let handshake = start.into_stream(side.config).into_fallible();
    let (error, stream) = match timeout(shared.limits.handshake_time, handshake).await {
        Err(_) => {
            let sentence = "the peer did not finish its handshake".to_owned();
            return refused(None, "handshake_timeout", sentence);
        }
        Ok(Err(failed)) => failed,
        Ok(Ok(stream)) => {
            let Some(caller) = side.outcome.peer() else {
                return refused(
                    None,
                    "no_certificate",
                    "the peer has no identity".to_owned(),
                );
            };
            let svid_not_after = svid.not_after();
            let stream = stream.into();
            return Greeting::Admitted(Box::new(Admitted {
                stream,
                caller,
                service,
                node,
                svid_not_after,
                desired,
            }));
        }
    };
    tokio::spawn(let_read_alert(stream));
    match side.outcome.refusal(&error) {
        Some(refusal) => refused(
            refusal.peer().cloned(),
            refusal.label(),
            refusal.to_string(),
        ),
        None => {
            let (reason, sentence) = explain(&error);
            refused(None, reason, sentence)
        }
    }
}

/// A handshake that failed without our refusal.
fn explain(error: &io::Error) -> (&'static str, String) {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(AlertDescription::UnknownCA)) => (
            "peer_refused",
            "the peer does not trust this site's CA".to_owned(),
        ),
        Some(rustls::Error::AlertReceived(alert)) => (
            "peer_refused",
            format!("the peer ended the handshake with the alert {alert:?}"),
        ),
        Some(error) => ("bad_handshake", format!("the handshake failed: {error}")),
        None => (
            "peer_closed",
            format!("the peer closed during the handshake: {error}"),
        ),
    }
}

/// Closing at once, with bytes of the peer still unread, would reset the connection before the
/// peer has read why it was refused.
async fn let_read_alert(mut stream: TcpStream) {
    let _ = timeout(ALERT_TIME, async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(ALERT_BYTES), &mut tokio::io::sink()).await
    })
    .await;
}
