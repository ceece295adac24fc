//! TLS to a server whose certificate proves nothing: for what is public, and signed by itself.
//!
//! Nothing secret goes over such a connection, and what comes is judged by its signatures alone.
//! Code that has to know the other end uses the TLS configurations of `renkei_spiffe` instead.

use std::sync::Arc;

use renkei_spiffe::{CertificateCheck, CertificateVerifier};
use rustls::{ClientConfig, client::Resumption, crypto::CryptoProvider};
use rustls_pki_types::{CertificateDer, UnixTime};

const ALPN: &[u8] = b"http/1.1";

/// A client without a certificate, for any server.
pub(super) fn any_server(
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let verifier = CertificateVerifier::new(provider, AnyServer);
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct AnyServer;

impl CertificateCheck for AnyServer {
    fn check(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<(), rustls::Error> {
        Ok(())
    }
}
