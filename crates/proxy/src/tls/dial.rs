//! Dialling a gateway of another site, and why that fails.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use renkei_site::HostPort;
use renkei_spiffe::{HandshakeRefusal, NoSvid, SpiffeId, TrustDomain, client_side};
use rustls::AlertDescription;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, sync::oneshot, time::timeout};

use crate::{
    admission::Admission,
    context::Context,
    identity::Pair,
    record::{self, HandshakeError},
    sockets::{ConnectError, OnClose, connect, keep_alive},
    trunk::{DialError, LaneConnection, OpenError, TrunkFailure},
};

/// Why a peer was not reached, or refused.
#[derive(Debug)]
pub(crate) enum DialFailure {
    /// The caller has no valid SVID.
    NoIdentity(NoSvid),
    /// The site file names no gateway for the callee.
    NoGateway,
    /// The callee's ID cannot be a server name.
    NoServerName,
    /// The gateway could not be connected to.
    Unreachable(HostPort, ConnectError),
    /// The gateway of this site by which connections leave did not bring it there.
    NoExit(String),
    /// The gateway does not answer in TLS.
    SlowHandshake(HostPort),
    /// The other end did not prove to be the callee.
    Peer(HandshakeRefusal),
    /// There is no bundle to verify the callee with.
    NoBundle,
    /// It was found out a moment ago that the callee cannot be reached.
    Known {
        /// The name of the failure.
        label: &'static str,
        /// What was said of it.
        sentence: String,
    },
    /// The gateway answered as itself: it knows no such service.
    NoSuchService,
    /// The other end ended the session and said so.
    Alert(AlertDescription),
    /// Any other failure of TLS.
    Tls(String),
}

impl DialFailure {
    /// What a failed handshake means.
    fn of_handshake(
        refusal: Option<HandshakeRefusal>,
        error: &io::Error,
        callee: &SpiffeId,
    ) -> Self {
        match refusal {
            Some(refusal) if is_server_of(&refusal, callee) => Self::NoSuchService,
            Some(refusal) => Self::Peer(refusal),
            None => Self::of_session(error),
        }
    }

    /// What an error of TLS means.
    fn of_session(error: &io::Error) -> Self {
        Self::from_alert(error).unwrap_or_else(|| Self::Tls(error.to_string()))
    }

    /// Whether it takes long to find this out.
    pub(crate) fn is_slow(&self) -> bool {
        match self {
            Self::Unreachable(_, error) => {
                !matches!(error, ConnectError::Refused) && !error.is_local()
            }
            Self::SlowHandshake(_) => true,
            _ => false,
        }
    }

    /// Why the stream of a trunk was not opened; `gateway` was to be dialled. Nothing if the other
    /// end knows no trunks.
    pub(crate) fn of_trunk(error: OpenError<Self>, gateway: &HostPort) -> Self {
        match error {
            OpenError::NoTrunks(_) => Self::no_trunks(),
            OpenError::Timeout => Self::SlowHandshake(gateway.clone()),
            OpenError::Dial(failure) => failure,
            OpenError::Trunk(TrunkFailure::Io(error)) => Self::of_session(&error),
            OpenError::Trunk(TrunkFailure::Other(sentence)) => Self::Tls(sentence),
        }
    }

    /// The alert that the peer sent, if that is the error.
    pub(crate) fn from_alert(error: &io::Error) -> Option<Self> {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => Some(Self::Alert(*alert)),
            _ => None,
        }
    }

    /// One sentence for people.
    pub(crate) fn sentence(&self, caller: &SpiffeId, callee: &SpiffeId) -> String {
        let (from, to, site) = (caller.short(), callee.short(), callee.trust_domain());
        match self {
            Self::NoIdentity(fault) => fault.to_string(),
            Self::NoGateway => format!("the site file names no gateway for {site}"),
            Self::NoServerName => format!("{to} cannot be reached: its path is no DNS label"),
            Self::Unreachable(gateway, error) => {
                format!("the gateway of {site} at {gateway} cannot be reached: {error}")
            }
            Self::NoExit(why) => {
                format!(
                    "the gateway of {site} was not reached through a gateway of this site: {why}"
                )
            }
            Self::SlowHandshake(gateway) => {
                format!("the gateway of {site} at {gateway} does not answer in TLS")
            }
            Self::NoBundle => format!(
                "this site has no bundle of {site}, so it cannot verify {to}; `renkei status` says \
                 why"
            ),
            Self::Known { sentence, .. } => format!("{sentence}; connections are reset meanwhile"),
            Self::Peer(refusal) => format!("{to} did not prove its identity: {refusal}"),
            // A server name of no service leads to the bundle endpoint, which knows no trunks.
            Self::NoSuchService | Self::Alert(AlertDescription::NoApplicationProtocol) => {
                let name = callee.path().trim_start_matches('/');
                format!("{site} has no service `{name}`; check the name under `uses`")
            }
            Self::Alert(AlertDescription::UnrecognisedName) => format!(
                "the gateway for {site} cannot reach {to}: a hub answers so while {site} is not \
                 linked to it, a gateway while the node that holds the service is not"
            ),
            // Renkei and go-spiffe answer so without an SVID.
            Self::Alert(AlertDescription::InternalError) => {
                format!("{to} has no valid identity at this time; the log of {site} says why")
            }
            Self::Alert(alert) => format!("{to} refused {from}: {}", meaning(*alert, caller)),
            Self::Tls(error) => format!("TLS with {to} failed: {error}"),
        }
    }
}

impl DialError for DialFailure {
    fn no_trunks() -> Self {
        Self::Tls("the other end knows no trunks any more".into())
    }

    fn is_of_the_path(&self) -> bool {
        matches!(
            self,
            Self::NoGateway | Self::Unreachable(..) | Self::NoExit(_) | Self::SlowHandshake(_)
        )
    }

    fn is_certain(&self) -> bool {
        matches!(
            self,
            Self::NoIdentity(_) | Self::NoBundle | Self::Peer(HandshakeRefusal::Peer(_))
        )
    }

    fn label(&self) -> &'static str {
        match self {
            Self::NoIdentity(fault) => fault.label(),
            Self::NoGateway => "no_gateway",
            Self::NoServerName => "no_server_name",
            Self::Unreachable(_, error) => error.label(),
            Self::NoExit(_) => "no_exit",
            Self::SlowHandshake(_) => "handshake_timeout",
            Self::NoBundle => "no_bundle",
            Self::Known { label, .. } => label,
            Self::Peer(refusal) => refusal.label(),
            Self::NoSuchService | Self::Alert(AlertDescription::NoApplicationProtocol) => {
                "no_such_service"
            }
            Self::Alert(AlertDescription::AccessDenied) => "peer_denied",
            Self::Alert(AlertDescription::UnrecognisedName) => "not_linked",
            Self::Alert(AlertDescription::InternalError) => "peer_no_identity",
            Self::Alert(_) => "peer_refused",
            Self::Tls(_) => "tls",
        }
    }
}

fn is_server_of(refusal: &HandshakeRefusal, callee: &SpiffeId) -> bool {
    let HandshakeRefusal::Denied { peer, .. } = refusal else {
        return false;
    };
    peer.trust_domain() == callee.trust_domain() && peer.path() == "/renkei/server"
}

/// What an alert (RFC 8446 6.2) says about our certificate, in the words of this mesh.
fn meaning(alert: AlertDescription, caller: &SpiffeId) -> String {
    let own = caller.trust_domain();
    match alert {
        AlertDescription::AccessDenied => "its policy does not allow this caller".to_owned(),
        AlertDescription::UnknownCA => format!("it does not trust the CA of {own}"),
        AlertDescription::CertificateExpired => {
            "its clock says that this site's certificate is expired or not yet valid; compare \
             the clocks"
                .to_owned()
        }
        other => format!("it closed the handshake with the TLS alert {other:?}; its log says why"),
    }
}

/// Brings connections to other sites by a link of this process.
pub(crate) trait Exit: Send + Sync + std::fmt::Debug {
    /// A connection to the gateway of a site, through the gateway `through` of this one, or why
    /// there is none.
    fn open(
        &self,
        through: &SpiffeId,
        to: &TrustDomain,
    ) -> BoxFuture<'_, Result<ExitStream, String>>;
}

/// A connection that leaves by a link.
#[derive(Debug)]
pub(crate) struct ExitStream {
    pub(crate) tcp: TcpStream,
    /// The gateway of this site that forwards it.
    pub(crate) remote: SocketAddr,
    /// Why it ended, if that gateway has said so.
    pub(crate) ended: oneshot::Receiver<Option<String>>,
}

/// How a gateway of another site is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GatewayPath<'a> {
    /// It is dialled.
    Direct,
    /// By the link to this gateway of the own site.
    Through(&'a SpiffeId, &'a dyn Exit),
}

/// What is heard of the end of a connection that leaves by a link.
type Ended = Option<oneshot::Receiver<Option<String>>>;

impl GatewayPath<'_> {
    async fn connect(
        self,
        pair: &Pair,
        gateway: &HostPort,
        limit: Duration,
    ) -> Result<(TcpStream, SocketAddr, Ended), DialFailure> {
        match self {
            Self::Direct => {
                let connected = connect(gateway, limit, OnClose::Finish).await;
                let (tcp, remote) =
                    connected.map_err(|error| DialFailure::Unreachable(gateway.clone(), error))?;
                Ok((tcp, remote, None))
            }
            Self::Through(exit, by) => {
                let opened = by.open(exit, pair.callee.trust_domain()).await;
                let ExitStream { tcp, remote, ended } = opened.map_err(DialFailure::NoExit)?;
                Ok((tcp, remote, Some(ended)))
            }
        }
    }
}

/// Dials a gateway as the pair's caller, asks for `name` with one of the `protocols` (RFC 7301),
/// and demands that the other end proves to be the callee.
pub(crate) async fn dial_peer(
    pair: &Pair,
    name: &str,
    (gateway, path): (&HostPort, GatewayPath<'_>),
    protocols: &[&[u8]],
    (context, admission): (&Context, &Admission),
) -> Result<LaneConnection, DialFailure> {
    let known = context.identities();
    if known.bundles.get(pair.callee.trust_domain()).is_none() {
        return Err(DialFailure::NoBundle);
    }
    let _place = admission.dial(pair, gateway).await;
    let name = ServerName::try_from(name.to_owned()).map_err(|_| DialFailure::NoServerName)?;
    let svid = context
        .svid(&pair.caller)
        .map_err(DialFailure::NoIdentity)?;
    let identities = context.identities();
    let bundles = identities.bundles.clone();
    let demand = Arc::new(pair.callee.clone());
    let side = client_side(&context.provider, &svid, bundles, demand, protocols)
        .map_err(|error| DialFailure::Tls(error.to_string()))?;
    let limits = &context.limits;
    let (tcp, remote, ended) = path.connect(pair, gateway, limits.connect_timeout).await?;
    keep_alive(&tcp, remote);
    let handshake = record::connect(side.config, name, tcp);
    let connection = match timeout(limits.handshake_timeout, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(HandshakeError { error, tcp })) => {
            drop(tcp);
            let refusal = side.outcome.refusal(&error);
            // What TLS says is the other site's; anything else may be of the way there.
            if error
                .get_ref()
                .is_none_or(|inner| !inner.is::<rustls::Error>())
                && let Some(why) = said_at_exit(ended, limits.connect_timeout).await
            {
                return Err(DialFailure::NoExit(why));
            }
            return Err(DialFailure::of_handshake(refusal, &error, &pair.callee));
        }
        Err(_) => return Err(DialFailure::SlowHandshake(gateway.clone())),
    };
    let credentials = context
        .credentials(svid, connection.peer_certificates(), identities)
        .map_err(|error| DialFailure::Peer(HandshakeRefusal::Peer(error)))?;
    Ok(LaneConnection {
        connection,
        remote,
        credentials,
    })
}

/// Why the own gateway did not bring a connection to where it was to go.
async fn said_at_exit(ended: Ended, limit: Duration) -> Option<String> {
    timeout(limit, ended?).await.ok()?.ok()?
}
