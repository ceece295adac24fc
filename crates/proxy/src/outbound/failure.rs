//! Why a local workload's connection did not reach its callee, in a sentence that says what to
//! look at.

use std::io;

use renkei_kafka::SessionError;
use renkei_site::HostPort;
use renkei_spiffe::{NoSvid, Refusal, SpiffeId};
use rustls::AlertDescription;

use crate::{connect::ConnectError, kafka, local_caller::CallerError, trunk::StreamRefused};

/// Why a connection was not opened, or ended before it began.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The process at the local listener is not the workload.
    Caller(CallerError),
    /// The local connection is gone already.
    CallerGone,
    /// The caller has no valid SVID.
    NoIdentity(NoSvid),
    /// The site file names no gateway for the callee.
    NoGateway,
    /// The callee's ID cannot be a server name.
    NoServerName,
    /// The gateway could not be connected to.
    Unreachable(HostPort, ConnectError),
    /// The gateway does not answer in TLS.
    SlowHandshake(HostPort),
    /// The other end did not prove to be the callee.
    Peer(Refusal),
    /// The gateway answered as itself: it knows no such service.
    NoSuchService,
    /// The other end ended the session and said so.
    Alert(AlertDescription),
    /// What passed was not the protocol of the service.
    Session(SessionError),
    /// The callee's side did not take the connection, in its own words.
    Refused(String),
    /// Any other failure of TLS.
    Tls(String),
}

impl Failure {
    /// What a failed handshake means.
    pub(super) fn of_handshake(
        refusal: Option<Refusal>,
        error: &io::Error,
        callee: &SpiffeId,
    ) -> Self {
        match refusal {
            Some(refusal) if is_server_of(&refusal, callee) => Self::NoSuchService,
            Some(refusal) => Self::Peer(refusal),
            None => Self::from_alert(error).unwrap_or_else(|| Self::Tls(error.to_string())),
        }
    }

    /// The alert that an error stands for, if it does.
    pub(crate) fn from_alert(error: &io::Error) -> Option<Self> {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => Some(Self::Alert(*alert)),
            _ => None,
        }
    }

    /// The callee's side's words, if it refused a stream of a trunk.
    pub(super) fn from_stream(error: &io::Error) -> Option<Self> {
        let inner = error.get_ref()?.downcast_ref::<StreamRefused>()?;
        Some(Self::Refused(inner.0.clone()))
    }

    /// The session's complaint that an error stands for, if it does.
    pub(super) fn from_session(error: &io::Error) -> Option<Self> {
        kafka::session_error(error).cloned().map(Self::Session)
    }

    /// Whether the other end was not reached at all.
    pub(crate) fn is_of_the_path(&self) -> bool {
        matches!(
            self,
            Self::NoGateway | Self::Unreachable(..) | Self::SlowHandshake(_)
        )
    }

    /// Whether the certificates of either side are the reason, which further attempts with them
    /// do not mend.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self, Self::NoIdentity(_) | Self::Peer(Refusal::Peer(_)))
    }

    /// A short, stable name for metrics.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Caller(error) => error.label(),
            Self::CallerGone => "caller_closed",
            Self::NoIdentity(fault) => fault.label(),
            Self::NoGateway => "no_gateway",
            Self::NoServerName => "no_server_name",
            Self::Unreachable(_, error) => error.label(),
            Self::SlowHandshake(_) => "handshake_timeout",
            Self::Peer(refusal) => refusal.label(),
            Self::NoSuchService | Self::Alert(AlertDescription::NoApplicationProtocol) => {
                "no_such_service"
            }
            Self::Alert(AlertDescription::AccessDenied) | Self::Refused(_) => "peer_denied",
            Self::Alert(AlertDescription::UnrecognisedName) => "not_linked",
            Self::Alert(AlertDescription::InternalError) => "peer_no_identity",
            Self::Alert(_) => "peer_refused",
            Self::Session(error) => error.label(),
            Self::Tls(_) => "tls",
        }
    }

    /// One sentence for people.
    pub(crate) fn sentence(&self, caller: &SpiffeId, callee: &SpiffeId) -> String {
        let (from, to, site) = (caller.short(), callee.short(), callee.trust_domain());
        match self {
            Self::Caller(error) => error.to_string(),
            Self::CallerGone => "the caller closed its connection at once".to_owned(),
            Self::NoIdentity(fault) => fault.to_string(),
            Self::NoGateway => format!("the site file names no gateway for {site}"),
            Self::NoServerName => format!("{to} cannot be reached: its path is no DNS label"),
            Self::Unreachable(gateway, error) => {
                format!("the gateway of {site} at {gateway} cannot be reached: {error}")
            }
            Self::SlowHandshake(gateway) => {
                format!("the gateway of {site} at {gateway} does not answer in TLS")
            }
            Self::Peer(refusal) => format!("{to} did not prove its identity: {refusal}"),
            // A server name of no service leads to the bundle endpoint, which knows no trunks.
            Self::NoSuchService | Self::Alert(AlertDescription::NoApplicationProtocol) => {
                let name = callee.path().trim_start_matches('/');
                format!("{site} has no service `{name}`; check the name under `uses`")
            }
            Self::Alert(AlertDescription::UnrecognisedName) => format!(
                "the gateway for {site} cannot reach {to}: a hub answers so while {site} is not \
                 linked to it"
            ),
            // Renkei and go-spiffe answer so without an SVID.
            Self::Alert(AlertDescription::InternalError) => {
                format!("{to} has no valid identity at this time; the log of {site} says why")
            }
            Self::Alert(alert) => format!("{to} refused {from}: {}", meaning(*alert, caller)),
            Self::Refused(reason) => format!("{to} refused {from}: {reason}"),
            Self::Session(error) => format!("Kafka between {from} and {to}: {error}"),
            Self::Tls(error) => format!("TLS with {to} failed: {error}"),
        }
    }
}

fn is_server_of(refusal: &Refusal, callee: &SpiffeId) -> bool {
    let Refusal::Denied { peer, .. } = refusal else {
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
