//! Reading a mirror of the log, and handing something in at the registry. What comes is believed
//! only as far as it verifies, so any transport will do.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use renkei_federation::{
    UpdateError, View,
    log::{MAX_BUNDLE_BYTES, MAX_NOTE_BYTES, WIDTH, bundle_path, read_bundle},
};
use renkei_runtime::files;
use renkei_site::Mirror;
use rustls::{ClientConfig, crypto::CryptoProvider};
use time::OffsetDateTime;
use url::Url;

use super::log_cache::LogCache;
use crate::{
    fetch::{self, Answer, Ask, FetchError},
    web_client::web_client,
};

/// For one file, from the name lookup to the last byte.
const LIMIT: Duration = Duration::from_secs(30);

/// Why a mirror could not be read.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A mirror is a folder, and a file in it cannot be read.
    #[error("cannot read {file}: {source}")]
    File {
        /// The name of the file in the log.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A mirror is an HTTP server, and gives no answer or a wrong one.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The web's roots, or the provider of cryptography, cannot be used.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The registry said no.
    #[error("the registry answered {status}: {text}")]
    Refused {
        /// The HTTP status of the refusal.
        status: StatusCode,
        /// The body of the answer, for people.
        text: String,
    },
    /// Nothing that takes statements.
    #[error(
        "no mirror of the federation file accepts statements: submit them with `renkei federation submit` where the registry can be reached"
    )]
    NoRegistry,
    /// There is no log.
    #[error("there is no checkpoint of a log")]
    NoCheckpoint,
    /// A file of the log is missing.
    #[error("{0} is missing")]
    Missing(String),
    /// A file of the log is not one.
    #[error("{0} is not a file of entries")]
    Malformed(String),
    /// What it offers does not verify.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The copy in the state folder.
    #[error("the copy of the log in the state folder cannot be written: {0}")]
    Copy(io::Error),
}

/// A mirror that can be read.
#[derive(Clone)]
pub struct MirrorReader {
    mirror: Mirror,
    tls: Option<Arc<ClientConfig>>,
}

impl MirrorReader {
    /// Makes ready to read a mirror; an https URL is verified by the system's roots.
    pub async fn new(mirror: Mirror, provider: &Arc<CryptoProvider>) -> Result<Self, MirrorError> {
        let tls = match &mirror {
            Mirror::Url(url) if url.scheme() == "https" => {
                let client = web_client(provider, None);
                Some(client.map_err(|error| MirrorError::Tls(error.to_string()))?)
            }
            _ => None,
        };
        Ok(Self { mirror, tls })
    }

    /// A mirror that is a folder of this machine.
    pub(super) fn folder(path: &Path) -> Self {
        Self {
            mirror: Mirror::Folder(path.to_owned()),
            tls: None,
        }
    }

    /// A file of the log, if it is there.
    async fn get(&self, name: &str, most: usize) -> Result<Option<Bytes>, MirrorError> {
        match &self.mirror {
            Mirror::Folder(folder) => {
                let path = folder.join(name);
                match files::read(&path, most) {
                    Ok(bytes) => Ok(Some(bytes.into())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(source) => Err(MirrorError::File {
                        file: path.display().to_string(),
                        source,
                    }),
                }
            }
            Mirror::Url(url) => {
                let answer = self.ask(url, name, None, most).await?;
                match answer.status {
                    StatusCode::OK => Ok(Some(answer.body)),
                    StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
                    _ => Err(refused(&answer)),
                }
            }
        }
    }

    /// The entries' file with this number; a partial one may have given way to the full one.
    async fn bundle(&self, number: u64, size: u64) -> Result<Bytes, MirrorError> {
        let name = bundle_path(number, size);
        if let Some(bytes) = self.get(&name, MAX_BUNDLE_BYTES).await? {
            return Ok(bytes);
        }
        let full = bundle_path(number, u64::MAX);
        let bytes = self.get(&full, MAX_BUNDLE_BYTES).await?;
        bytes.ok_or(MirrorError::Missing(name))
    }

    /// Hands something in; `false` when this is a mirror that takes nothing.
    pub(super) async fn post(&self, name: &str, body: Bytes) -> Result<bool, MirrorError> {
        let Mirror::Url(url) = &self.mirror else {
            return Ok(false);
        };
        let answer = self.ask(url, name, Some(body), MAX_NOTE_BYTES).await?;
        match answer.status {
            status if status.is_success() => Ok(true),
            StatusCode::NOT_FOUND
            | StatusCode::METHOD_NOT_ALLOWED
            | StatusCode::NOT_IMPLEMENTED => Ok(false),
            _ => Err(refused(&answer)),
        }
    }

    async fn ask(
        &self,
        url: &Url,
        name: &str,
        body: Option<Bytes>,
        most: usize,
    ) -> Result<Answer, MirrorError> {
        let no_host = || FetchError::NoHost(url.clone());
        let url = url.join(name).map_err(|_| no_host())?;
        let ask = Ask {
            url: &url,
            way: None,
            body,
            tls: self.tls.clone(),
            most,
            limit: LIMIT,
        };
        Ok(fetch::exchange(ask).await?)
    }

    /// Extends a view with what this mirror has, and tells the size of the tree that it offers.
    /// `copy` is written as entries come; they count once its checkpoint is.
    pub async fn extend(
        &self,
        view: &View,
        fresh: bool,
        now: OffsetDateTime,
        copy: Option<&LogCache>,
    ) -> Result<(View, u64), MirrorError> {
        let checkpoint = self.get("checkpoint", MAX_NOTE_BYTES).await?;
        let pending = self.get("pending", MAX_NOTE_BYTES).await?;
        if checkpoint.is_none() && pending.is_none() {
            return Err(MirrorError::NoCheckpoint);
        }
        let mut extension = view.extend(checkpoint.as_deref(), pending.as_deref(), fresh, now)?;
        while let Some(index) = extension.wants() {
            let number = index / WIDTH;
            let bytes = self.bundle(number, extension.size()).await?;
            let name = || bundle_path(number, extension.size());
            let entries = read_bundle(&bytes).ok_or_else(|| MirrorError::Malformed(name()))?;
            let known = usize::try_from(index % WIDTH).unwrap_or(usize::MAX);
            let mut new = entries.into_iter().skip(known).peekable();
            if new.peek().is_none() {
                return Err(MirrorError::Missing(name()));
            }
            for entry in new {
                if extension.wants().is_none() {
                    break;
                }
                extension.push(entry)?;
            }
            if let Some(copy) = copy {
                copy.write(&extension.take_files())
                    .map_err(MirrorError::Copy)?;
            }
            // Thousands of signatures may lie behind; others want to work too.
            tokio::task::yield_now().await;
        }
        let offered = extension.offered();
        Ok((extension.finish()?, offered))
    }
}

fn refused(answer: &Answer) -> MirrorError {
    let text = String::from_utf8_lossy(&answer.body);
    let text = text.trim().chars().filter(|c| !c.is_control()).take(500);
    MirrorError::Refused {
        status: answer.status,
        text: text.collect(),
    }
}
