//! What a federation file says.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::read::{Wrong, values};

/// An Ed25519 public key, as its 32 bytes.
pub type Key = [u8; 32];

/// A federation, as its file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FederationFile {
    /// Its name, for people.
    pub name: String,
    /// The name of its log: the first line of checkpoints.
    pub origin: String,
    /// The key that signs checkpoints.
    pub log_key: Key,
    /// The keys that admit members; never empty.
    pub registrar: Vec<Key>,
    /// How many of them must sign an admission.
    pub registrar_threshold: usize,
    /// How many witnesses must have cosigned a checkpoint.
    pub quorum: usize,
    /// The witnesses' keys, by the trust domain of their site.
    pub witnesses: BTreeMap<TrustDomain, Key>,
    /// Where the log is read, the first that answers first; never empty.
    pub mirrors: Vec<Mirror>,
}

/// A copy of the log, or the registry itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mirror {
    /// A server that gives the files below this URL.
    Url(Url),
    /// A folder with a copy of the log.
    Folder(PathBuf),
}

impl Mirror {
    /// From a URL or the name of a folder, or why it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).map_err(|wrong| wrong.message)
    }

    /// From a URL or the name of a folder.
    pub(super) fn read(text: &str) -> Result<Self, Wrong> {
        if !text.contains("://") {
            return values::path(text).map(Self::Folder);
        }
        let hint = "write https://HOST:PORT/PATH/, or the name of a folder";
        let bad = |why: &str| {
            Err(Wrong::new(
                format!("this is not the URL of a mirror: {why}"),
                hint,
            ))
        };
        match Url::parse(text) {
            Err(error) => bad(&error.to_string()),
            Ok(url) if !matches!(url.scheme(), "http" | "https") => {
                bad("its scheme is not https or http")
            }
            Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                bad("it has user information")
            }
            Ok(url) if url.query().is_some() || url.fragment().is_some() => {
                bad("it has a query or a fragment")
            }
            Ok(mut url) => {
                // The files lie below it.
                if !url.path().ends_with('/') {
                    let path = format!("{}/", url.path());
                    url.set_path(&path);
                }
                Ok(Self::Url(url))
            }
        }
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => url.fmt(f),
            Self::Folder(path) => path.display().fmt(f),
        }
    }
}

impl FederationFile {
    /// Takes relative paths to start at `base`, the folder of the federation file.
    pub fn resolve_paths(&mut self, base: &Path) {
        for mirror in &mut self.mirrors {
            if let Mirror::Folder(path) = mirror {
                *path = base.join(&*path);
            }
        }
    }
}
