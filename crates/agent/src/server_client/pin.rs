//! The first contact of a machine with a server. A token of Renkei has the SHA-256 of the server's
//! CA, which the server sends in the handshake, behind its own certificate. For a SPIRE server the
//! operator has the bundle itself.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use renkei_api::node::NodeToken;
use renkei_runtime::clock;
use renkei_site::HostPort;
use renkei_spiffe::{
    Authorizer, Bundle, BundleSet, CertificateCheck, CertificateVerifier, HandshakeRefusal,
    SpiffeId, TrustDomain, verify_peer,
};
use rustls::{
    CertificateError, ClientConfig, client::Resumption, crypto::CryptoProvider, version::TLS13,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tonic::transport::Channel;

use super::{
    ConnectError,
    connection::{ALPN, dial, server_id},
};

/// What a machine knows of a server before its first contact.
#[derive(Debug, Clone)]
pub(super) enum Anchor {
    /// The SHA-256 of its CA.
    Token(NodeToken),
    /// All of its CAs.
    Bundle(Bundle),
}

impl Anchor {
    fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Token(token) => &token.trust_domain,
            Self::Bundle(bundle) => &bundle.trust_domain,
        }
    }
}

/// A connection to the server that the anchor is of, without a certificate of this side. Gives the
/// bundle by which the server was verified as well.
pub(super) async fn first_contact(
    server: &HostPort,
    anchor: Anchor,
    provider: &Arc<CryptoProvider>,
) -> Result<(Channel, Bundle), ConnectError> {
    let unusable = |reason: String| ConnectError::Tls {
        server: server.clone(),
        reason,
    };
    let expected = server_id(anchor.trust_domain())
        .ok_or_else(|| unusable("the trust domain has no server".to_owned()))?;
    let check = PinCheck {
        provider: provider.clone(),
        anchor,
        expected,
        found: OnceLock::new(),
    };
    let verifier = Arc::new(CertificateVerifier::new(provider, check));
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unusable(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    let refusal = |_: &io::Error| match verifier.check().found.get()? {
        Ok(_) => None,
        Err(fault) => Some(fault.of(server)),
    };
    let channel = dial(server, Arc::new(config), refusal).await?;
    match verifier.check().found.get() {
        Some(Ok(bundle)) => Ok((channel, bundle.clone())),
        _ => Err(unusable("the server sent no certificate".to_owned())),
    }
}

/// Why the certificates of the other end are refused.
#[derive(Debug)]
enum Fault {
    OtherCa,
    Refused(HandshakeRefusal),
}

impl Fault {
    fn of(&self, server: &HostPort) -> ConnectError {
        let server = server.clone();
        match self {
            Self::OtherCa => ConnectError::OtherCa(server),
            Self::Refused(refusal) => ConnectError::NotTheServer {
                server,
                refusal: refusal.clone(),
            },
        }
    }
}

/// Verifies the server by the anchor alone.
#[derive(Debug)]
struct PinCheck {
    provider: Arc<CryptoProvider>,
    anchor: Anchor,
    expected: SpiffeId,
    found: OnceLock<Result<Bundle, Fault>>,
}

impl PinCheck {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
    ) -> Result<Bundle, Fault> {
        let (bundle, below) = self.anchored(others)?;
        let chain: Vec<_> = [leaf].into_iter().chain(below).cloned().collect();
        let bundles = BundleSet::from_iter([Arc::new(bundle.clone())]);
        let algorithms = &self.provider.signature_verification_algorithms;
        let peer = verify_peer(&chain, &bundles, clock::now(), algorithms);
        let peer = peer.map_err(|error| Fault::Refused(HandshakeRefusal::Peer(error)))?;
        match self.expected.authorize(&peer) {
            Ok(()) => Ok(bundle),
            Err(denied) => Err(Fault::Refused(HandshakeRefusal::Denied { peer, denied })),
        }
    }

    /// The bundle to verify by, and the certificates between the leaf and it.
    fn anchored<'a, 'b>(
        &self,
        others: &'a [CertificateDer<'b>],
    ) -> Result<(Bundle, Vec<&'a CertificateDer<'b>>), Fault> {
        let token = match &self.anchor {
            Anchor::Bundle(bundle) => return Ok((bundle.clone(), others.iter().collect())),
            Anchor::Token(token) => token,
        };
        let is_pinned = |certificate: &&CertificateDer<'_>| token.ca.matches(certificate);
        let ca = others.iter().find(is_pinned).ok_or(Fault::OtherCa)?;
        let bundle = Bundle {
            x509_authorities: vec![ca.clone().into_owned()],
            ..Bundle::empty(token.trust_domain.clone())
        };
        let below = others.iter().filter(|certificate| !is_pinned(certificate));
        Ok((bundle, below.collect()))
    }
}

impl CertificateCheck for PinCheck {
    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let found = self.verify(leaf, intermediates);
        let verdict = match &found {
            Ok(_) => Ok(()),
            Err(_) => Err(CertificateError::UnknownIssuer.into()),
        };
        // A second verification on one connection cannot happen in TLS 1.3.
        let _ = self.found.set(found);
        verdict
    }
}
