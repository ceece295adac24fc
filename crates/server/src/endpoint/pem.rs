//! A certificate and key in PEM files, read again when the files change: an ACME client may renew
//! them at any time.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use renkei_runtime::files;
use rustls::{ServerConfig, crypto::CryptoProvider};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

const MAX_PEM: usize = 1024 * 1024;

/// Why PEM files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The path of the PEM file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds nothing of the kind.
    #[error("{path} holds no {what} in PEM form")]
    Nothing {
        /// The path of the PEM file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// Certificate and key are not of one another, or of an unsupported kind.
    #[error("{certificate} and {key} cannot be used together: {source}")]
    Unusable {
        /// The certificate file that the site file names.
        certificate: PathBuf,
        /// The key file that the site file names.
        key: PathBuf,
        /// What rustls says of the pair.
        source: rustls::Error,
    },
}

/// The certificates of a PEM file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(PemError::Nothing {
            path: path.to_owned(),
            what: "certificate",
        }),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_: pem::Error| PemError::Nothing {
        path: path.to_owned(),
        what: "private key",
    })
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    let unreadable = |source| PemError::Unreadable {
        path: path.to_owned(),
        source,
    };
    files::read(path, MAX_PEM).map_err(unreadable)
}

/// By what a rewritten file is recognized.
type Stamp = Option<(SystemTime, u64)>;

/// A TLS configuration that follows two files.
#[derive(Debug)]
pub(super) struct PemIdentity {
    certificate: PathBuf,
    key: PathBuf,
    provider: Arc<CryptoProvider>,
    stamps: (Stamp, Stamp),
    config: Arc<ServerConfig>,
}

impl PemIdentity {
    pub(super) fn read(
        certificate: &Path,
        key: &Path,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, PemError> {
        let stamps = (stamp(certificate), stamp(key));
        let config = configuration(certificate, key, &provider)?;
        let (certificate, key) = (certificate.to_owned(), key.to_owned());
        Ok(Self {
            certificate,
            key,
            provider,
            stamps,
            config,
        })
    }

    /// The configuration from the files as they are now. A bad new pair is logged once and the
    /// one before stays in use.
    pub(super) fn current(&mut self) -> Arc<ServerConfig> {
        let stamps = (stamp(&self.certificate), stamp(&self.key));
        if stamps != self.stamps {
            self.stamps = stamps;
            match configuration(&self.certificate, &self.key, &self.provider) {
                Ok(config) => {
                    tracing::info!(file = %self.certificate.display(), "read the bundle endpoint's certificate again");
                    self.config = config;
                }
                Err(error) => {
                    tracing::error!(%error, "the bundle endpoint keeps its former certificate");
                }
            }
        }
        self.config.clone()
    }
}

fn configuration(
    certificate: &Path,
    key: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<ServerConfig>, PemError> {
    let (chain, private) = (certificates(certificate)?, private_key(key)?);
    super::server_config(provider, chain, private).map_err(|source| PemError::Unusable {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    })
}

fn stamp(path: &Path) -> Stamp {
    let owned = path.to_owned();
    #[cfg_attr(
        not(test),
        expect(clippy::disallowed_methods, reason = "on a thread that may wait")
    )]
    let metadata = files::run(path, move || std::fs::metadata(owned)).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
