//! Getting a peer's bundle from where the site file says: a file, or a bundle endpoint of either
//! profile.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::StatusCode;
use renkei_federation::{MAX_RECORD_BYTES, Reason, SiteRefusal};
use renkei_runtime::files;
use renkei_site::BundleWay;
use renkei_spiffe::{
    Authorizer, Bundle, BundleSet, DocumentError, HandshakeRefusal, MAX_DOCUMENT_BYTES, SpiffeId,
    TrustDomain, anonymous_client_side,
};
use rustls::crypto::CryptoProvider;
use time::OffsetDateTime;
use url::Url;

use super::{BundleRefusal, any_server::any_server};
use crate::{
    endpoint::RECORD_PATH,
    fetch::{self, Ask, FetchError},
    store::StoreError,
    web_client::{WebClientError, web_client},
};

const ALPN: &[&[u8]] = &[b"http/1.1"];

/// Why a peer's bundle could not be refreshed. The last good one stays in use.
#[derive(Debug, thiserror::Error)]
pub enum PeerFetchError {
    /// A bundle document on disk.
    #[error("cannot read the bundle document {path}: {source}")]
    File {
        /// The path that the site file names.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The first bundle has not been put in place.
    #[error(
        "the bootstrap file {path} does not exist yet; put the peer's bundle there (the peer prints it with: renkei bundle show --output json)"
    )]
    NoBootstrap {
        /// The path that the site file names.
        path: PathBuf,
    },
    /// The first bundle verifies nothing.
    #[error(
        "the bootstrap file {path} has no X.509 authorities, so the bundle endpoint cannot be verified; put the peer's bundle there (the peer prints it with: renkei bundle show --output json)"
    )]
    EmptyBootstrap {
        /// The path that the site file names.
        path: PathBuf,
    },
    /// The endpoint could not be read.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The endpoint's certificate proves the wrong identity or none.
    #[error("the bundle endpoint has another identity than expected: {0}")]
    Refused(HandshakeRefusal),
    /// The endpoint's CA is not in the last known bundle.
    #[error(
        "the bundle endpoint has another identity than expected: {0}; if the peer has a new CA, put its present bundle into the bootstrap file"
    )]
    UnknownCa(HandshakeRefusal),
    /// The link was down for longer than the CAs that are known here live.
    #[error(
        "the last bundle of {trust_domain} that is known here expired at {end}, so its bundle endpoint cannot be verified any more; put the peer's present bundle into the bootstrap file {path} (the peer prints it with: renkei bundle show --output json)"
    )]
    BundleEnded {
        /// The trust domain of the peer.
        trust_domain: TrustDomain,
        /// When the last of its known CAs expired.
        end: OffsetDateTime,
        /// The bootstrap file that the site file names.
        path: PathBuf,
    },
    /// The system's or the configured web roots.
    #[error("no web roots to verify the bundle endpoint with: {0}")]
    Roots(String),
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The site file has an identity, and the peer has none to show.
    #[error(
        "the peer does not show who it is: it has not run `renkei identity`, or its release has no such command"
    )]
    NoRecord,
    /// A relayed peer of a site that does not listen.
    #[error("this site has no address at which it could ask the peer; add `gateway` to the peer")]
    NoWay,
    /// What the peer shows is not accepted.
    #[error(transparent)]
    Identity(#[from] SiteRefusal),
    /// What the peer shows is accepted, and says that nothing of it is valid.
    #[error("nothing of the peer is valid at this time: {0}")]
    NotValid(Reason),
    /// Not a bundle document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A bundle that must not replace the last good one.
    #[error(transparent)]
    Bundle(#[from] BundleRefusal),
    /// The bundle could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PeerFetchError {
    /// A short, stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::File { .. } => "file",
            Self::NoBootstrap { .. } => "no_bootstrap",
            Self::EmptyBootstrap { .. } => "empty_bootstrap",
            Self::Fetch(FetchError::Timeout(_)) => "timeout",
            Self::Fetch(FetchError::Connect { .. } | FetchError::NoHost(_)) => "connect",
            Self::Fetch(FetchError::Handshake { .. }) => "handshake",
            Self::Fetch(FetchError::Http(_) | FetchError::Status(_)) => "http",
            Self::Fetch(FetchError::Redirect(_) | FetchError::TooManyRedirects) => "redirect",
            Self::Fetch(FetchError::TooLong(_)) => "too_long",
            Self::Refused(refusal) | Self::UnknownCa(refusal) => refusal.label(),
            Self::BundleEnded { .. } => "bundle_ended",
            Self::Roots(_) | Self::Tls(_) | Self::Fetch(FetchError::Tls(_)) => "tls",
            Self::NoRecord => "no_record",
            Self::NoWay => "no_way",
            Self::Identity(refusal) => refusal.label(),
            Self::NotValid(_) => "not_valid",
            Self::Document(_) => "document",
            Self::Bundle(_) => "sequence",
            Self::Store(_) => "store",
        }
    }
}

/// A document on disk and its SHA-256.
pub(super) struct DocumentFile {
    pub(super) bundle: Bundle,
    pub(super) hash: [u8; 32],
}

/// Reads a bundle document from disk.
pub(super) fn read_file(
    path: &Path,
    trust_domain: &TrustDomain,
) -> Result<DocumentFile, PeerFetchError> {
    let read = files::read(path, MAX_DOCUMENT_BYTES);
    let text = read.map_err(|source| PeerFetchError::File {
        path: path.to_owned(),
        source,
    })?;
    let bundle = Bundle::parse_document(trust_domain.clone(), &text)?;
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, &text).as_ref());
    Ok(DocumentFile { bundle, hash })
}

#[derive(Debug, Clone)]
pub(super) struct Fetcher {
    pub(super) provider: Arc<CryptoProvider>,
    /// For one fetch, from the name lookup to the last byte.
    pub(super) limit: Duration,
}

impl Fetcher {
    /// The profile https_web (SPIFFE_Federation 5.2.1): the endpoint has a certificate of the
    /// web's PKI for the host in the URL.
    pub(super) async fn web(
        &self,
        url: &Url,
        roots: Option<&Path>,
    ) -> Result<Bytes, PeerFetchError> {
        let config = web_client(&self.provider, roots).map_err(|error| match error {
            WebClientError::Roots(reason) => PeerFetchError::Roots(reason),
            WebClientError::Tls(error) => PeerFetchError::Tls(error),
        })?;
        Ok(fetch::get(url, None, &mut || Ok(config.clone()), self.limit).await?)
    }

    /// The record of a peer that is known by its identity. Nothing is known yet of who answers:
    /// the record is signed, and nothing secret is sent.
    pub(super) async fn record(&self, way: &BundleWay) -> Result<Bytes, PeerFetchError> {
        let url = Url::parse(&format!("https://{}{RECORD_PATH}", way.dial));
        let url = url.map_err(|_| PeerFetchError::NoWay)?;
        let ask = Ask {
            url: &url,
            way: Some(way),
            body: None,
            tls: Some(any_server(&self.provider)?),
            most: MAX_RECORD_BYTES,
            limit: self.limit,
        };
        let answer = fetch::exchange(ask).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            StatusCode::NOT_FOUND => Err(PeerFetchError::NoRecord),
            other => Err(FetchError::Status(other).into()),
        }
    }

    /// The profile https_spiffe (SPIFFE_Federation 5.2.2): the endpoint has an SVID that the last
    /// known bundle verifies, with exactly the ID expected.
    pub(super) async fn spiffe(
        &self,
        url: &Url,
        way: Option<&BundleWay>,
        endpoint: &SpiffeId,
        trusted: Arc<BundleSet>,
    ) -> Result<Bytes, PeerFetchError> {
        let authorizer: Arc<dyn Authorizer> = Arc::new(endpoint.clone());
        // Of the last connection: each redirect takes one more.
        let mut outcome = None;
        let mut connect = || -> Result<_, FetchError> {
            let (trusted, authorizer) = (trusted.clone(), authorizer.clone());
            let side = anonymous_client_side(&self.provider, trusted, authorizer, ALPN)?;
            outcome = Some(side.outcome);
            Ok(side.config)
        };
        let error = match fetch::get(url, way, &mut connect, self.limit).await {
            Ok(document) => return Ok(document),
            Err(error) => error,
        };
        let refusal = error
            .handshake()
            .and_then(|source| outcome?.refusal(source));
        match refusal {
            Some(refusal) if refusal.label() == "untrusted_ca" => {
                Err(PeerFetchError::UnknownCa(refusal))
            }
            Some(refusal) => Err(PeerFetchError::Refused(refusal)),
            None => Err(error.into()),
        }
    }
}
