//! TLS configurations in which each side verifies the other by the bundle of the other's own
//! trust domain, and asks an [`Authorizer`] before the handshake completes.
//!
//! One configuration serves one connection: it remembers the verified peer, or the typed reason
//! of the refusal, which a TLS alert could not carry. TLS 1.3 only. Sessions are never resumed: a
//! resumed session would skip the check of the peer's certificate, and so of expiry, withdrawn
//! bundles and policy.

use std::sync::{Arc, OnceLock};

use rustls::{
    AlertDescription, CertificateError, ClientConfig, ServerConfig, client::Resumption,
    crypto::CryptoProvider, server::NoServerSessionStorage, sign::SingleCertAndKey,
    time_provider::TimeProvider, version::TLS13,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use crate::{
    Authorizer, BundleSet, CertificateCheck, CertificateVerifier, Denied, PeerError, SpiffeId,
    X509Svid, verify_peer,
};

/// Why a handshake was ended by this side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeRefusal {
    /// The certificate does not prove an identity.
    #[error("{0}")]
    Peer(PeerError),
    /// The identity is proven and not allowed.
    #[error("{denied}")]
    Denied {
        /// The ID of the peer's SVID, which was verified.
        peer: SpiffeId,
        /// Why the rule refuses this peer.
        denied: Denied,
    },
}

impl HandshakeRefusal {
    /// A short, stable name for metrics and counters.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Peer(error) => error.label(),
            Self::Denied { denied, .. } => denied.label,
        }
    }

    /// The peer as far as it is known: proven for a denial, only claimed otherwise.
    pub fn peer(&self) -> Option<&SpiffeId> {
        match self {
            Self::Peer(error) => error.claimed(),
            Self::Denied { peer, .. } => Some(peer),
        }
    }
}

/// What one handshake found out about the peer.
#[derive(Debug, Clone, Default)]
pub struct Outcome(Arc<OnceLock<Result<SpiffeId, HandshakeRefusal>>>);

impl Outcome {
    /// The verified and authorised peer, once the handshake has come that far.
    pub fn peer(&self) -> Option<SpiffeId> {
        self.0.get().and_then(|found| found.clone().ok())
    }

    /// Why this side refused the peer, given the error with which the handshake ended. `None`
    /// when the failure was not this side's refusal (the peer's alert, a lost connection).
    pub fn refusal(&self, error: &std::io::Error) -> Option<HandshakeRefusal> {
        if let Some(Err(refusal)) = self.0.get() {
            return Some(refusal.clone());
        }
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        matches!(tls, Some(rustls::Error::NoCertificatesPresented))
            .then_some(HandshakeRefusal::Peer(PeerError::NoCertificate))
    }
}

/// Where the configurations made here take the time from.
static TIME: OnceLock<Arc<dyn TimeProvider>> = OnceLock::new();

/// Certificates are verified by this time from here on, and no longer by the system's clock. Once
/// in a process; a second call changes nothing.
pub fn tell_time(time: Arc<dyn TimeProvider>) {
    let _ = TIME.set(time);
}

/// The callee's side of one connection.
#[derive(Debug)]
pub struct ServerSide {
    /// For `tokio_rustls` or any other user of rustls.
    pub config: Arc<ServerConfig>,
    /// Filled by the handshake.
    pub outcome: Outcome,
}

/// The caller's side of one connection.
#[derive(Debug)]
pub struct ClientSide {
    /// For `tokio_rustls` or any other user of rustls.
    pub config: Arc<ClientConfig>,
    /// Filled by the handshake.
    pub outcome: Outcome,
}

/// Demands a client certificate, and presents `svid`. `alpn` in order of preference.
pub fn server_side(
    provider: &Arc<CryptoProvider>,
    svid: &X509Svid,
    bundles: Arc<BundleSet>,
    authorizer: Arc<dyn Authorizer>,
    alpn: &[&[u8]],
) -> Result<ServerSide, rustls::Error> {
    let check = PeerCheck::new(provider, bundles, authorizer);
    server_side_by(provider, svid, check, alpn)
}

/// Presents `svid`. A client may present no certificate; the one that it presents must verify and
/// satisfy `authorizer`. The server of the connection looks at [`Outcome::peer`].
pub fn server_side_for_anyone(
    provider: &Arc<CryptoProvider>,
    svid: &X509Svid,
    bundles: Arc<BundleSet>,
    authorizer: Arc<dyn Authorizer>,
    alpn: &[&[u8]],
) -> Result<ServerSide, rustls::Error> {
    let check = PeerCheck {
        is_mandatory: false,
        ..PeerCheck::new(provider, bundles, authorizer)
    };
    server_side_by(provider, svid, check, alpn)
}

fn server_side_by(
    provider: &Arc<CryptoProvider>,
    svid: &X509Svid,
    check: PeerCheck,
    alpn: &[&[u8]],
) -> Result<ServerSide, rustls::Error> {
    let outcome = check.outcome.clone();
    let verifier = CertificateVerifier::new(provider, check);
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(
            svid.certified_key(provider)?,
        )));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if let Some(time) = TIME.get() {
        config.time_provider = time.clone();
    }
    config.send_tls13_tickets = 0;
    // The proxy seals and opens the records itself once the handshake is done.
    config.enable_secret_extraction = true;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(ServerSide {
        config: Arc::new(config),
        outcome,
    })
}

/// Presents `svid` and demands that the callee satisfies `authorizer`.
pub fn client_side(
    provider: &Arc<CryptoProvider>,
    svid: &X509Svid,
    bundles: Arc<BundleSet>,
    authorizer: Arc<dyn Authorizer>,
    alpn: &[&[u8]],
) -> Result<ClientSide, rustls::Error> {
    let check = PeerCheck::new(provider, bundles, authorizer);
    let outcome = check.outcome.clone();
    let verifier = CertificateVerifier::new(provider, check);
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
            svid.certified_key(provider)?,
        )));
    Ok(ClientSide {
        config: finish_client(config, alpn),
        outcome,
    })
}

/// Presents nothing: what a reader of bundle endpoints of the profile https_spiffe needs
/// (SPIFFE_Federation 5.2.2).
pub fn anonymous_client_side(
    provider: &Arc<CryptoProvider>,
    bundles: Arc<BundleSet>,
    authorizer: Arc<dyn Authorizer>,
    alpn: &[&[u8]],
) -> Result<ClientSide, rustls::Error> {
    let check = PeerCheck::new(provider, bundles, authorizer);
    let outcome = check.outcome.clone();
    let verifier = CertificateVerifier::new(provider, check);
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(ClientSide {
        config: finish_client(config, alpn),
        outcome,
    })
}

fn finish_client(mut config: ClientConfig, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    if let Some(time) = TIME.get() {
        config.time_provider = time.clone();
    }
    config.enable_secret_extraction = true;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// The check of both directions; the names that TLS itself would compare play no part.
#[derive(Debug)]
struct PeerCheck {
    provider: Arc<CryptoProvider>,
    bundles: Arc<BundleSet>,
    authorizer: Arc<dyn Authorizer>,
    outcome: Outcome,
    /// Whether a client must present a certificate.
    is_mandatory: bool,
}

impl PeerCheck {
    fn new(
        provider: &Arc<CryptoProvider>,
        bundles: Arc<BundleSet>,
        authorizer: Arc<dyn Authorizer>,
    ) -> Self {
        Self {
            provider: provider.clone(),
            bundles,
            authorizer,
            outcome: Outcome::default(),
            is_mandatory: true,
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<SpiffeId, HandshakeRefusal> {
        let mut chain = Vec::with_capacity(1 + intermediates.len());
        chain.push(leaf.clone());
        chain.extend(intermediates.iter().cloned());
        let now = i64::try_from(now.as_secs())
            .ok()
            .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let algorithms = &self.provider.signature_verification_algorithms;
        let peer =
            verify_peer(&chain, &self.bundles, now, algorithms).map_err(HandshakeRefusal::Peer)?;
        match self.authorizer.authorize(&peer) {
            Ok(()) => Ok(peer),
            Err(denied) => Err(HandshakeRefusal::Denied { peer, denied }),
        }
    }
}

/// A fatal alert (RFC 8446 6.2) as a record in the clear, from a server that does not begin its
/// handshake: after a ClientHello the peer has no keys yet.
pub fn alert_in_clear(description: AlertDescription) -> [u8; 7] {
    [0x15, 3, 3, 0, 2, 2, description.into()]
}

/// What the peer may see of a refusal: the alert of RFC 8446 section 6.2 that fits.
fn alert(error: &PeerError) -> CertificateError {
    match error {
        PeerError::NoCertificate | PeerError::BadSvid(_) | PeerError::Chain { .. } => {
            CertificateError::BadEncoding
        }
        PeerError::UnknownTrustDomain(_) | PeerError::UntrustedCa(_) => {
            CertificateError::UnknownIssuer
        }
        PeerError::Expired { .. } => CertificateError::Expired,
        PeerError::NotYetValid { .. } => CertificateError::NotValidYet,
    }
}

impl CertificateCheck for PeerCheck {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let found = self.verify(leaf, intermediates, now);
        let verdict = match &found {
            Ok(_) => Ok(()),
            Err(HandshakeRefusal::Peer(error)) => Err(alert(error).into()),
            Err(HandshakeRefusal::Denied { .. }) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        };
        // A second verification on one connection cannot happen in TLS 1.3; the first result stays.
        let _ = self.outcome.0.set(found);
        verdict
    }

    fn is_mandatory(&self) -> bool {
        self.is_mandatory
    }
}
