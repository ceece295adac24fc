//! The TLS client for endpoints with a certificate of the web's PKI.

use std::{path::Path, sync::Arc};

use renkei_runtime::files;
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider};

use crate::endpoint::pem;

const ALPN: &[&[u8]] = &[b"http/1.1"];

/// Why there is no such client.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebClientError {
    /// The system's or the configured web roots.
    #[error("no web roots to verify the bundle endpoint with: {0}")]
    Roots(String),
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A client that verifies servers by certificates of the web's PKI: those of the file `roots`, or
/// else the system's.
pub(crate) fn web_client(
    provider: &Arc<CryptoProvider>,
    roots: Option<&Path>,
) -> Result<Arc<ClientConfig>, WebClientError> {
    let roots = web_roots(roots).map_err(WebClientError::Roots)?;
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

fn web_roots(file: Option<&Path>) -> Result<RootCertStore, String> {
    let certificates = match file {
        Some(path) => pem::certificates(path).map_err(|error| error.to_string())?,
        None => files::run(Path::new("the system's CA certificates"), || {
            Ok(rustls_native_certs::load_native_certs().certs)
        })
        .map_err(|error| format!("the system's CA certificates cannot be read: {error}"))?,
    };
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    match (added, file) {
        (0, None) => Err("the system has no CA certificates; name a PEM file as web_roots".into()),
        (0, Some(path)) => Err(format!("{} holds no usable certificate", path.display())),
        _ => Ok(roots),
    }
}
