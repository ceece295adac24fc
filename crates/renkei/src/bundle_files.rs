//! The bundle files that a site file names, and when what is in them expires.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use renkei_runtime::files::{self, Budget};
use renkei_site::{BundleSource, Site};
use renkei_spiffe::{Bundle, BundleEnd, MAX_DOCUMENT_BYTES, TrustDomain};
use serde::Serialize;
use time::OffsetDateTime;

use crate::output;

/// How long one file may take, and all together.
const LIMIT: Duration = Duration::from_secs(1);
const TOTAL: Duration = Duration::from_secs(5);

/// A file that holds a bundle of a peer.
#[derive(Debug, Serialize)]
pub(crate) struct BundleFile {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) file: PathBuf,
    /// The file is where trust starts; afterwards the endpoint gives newer bundles.
    pub(crate) bootstrap: bool,
    /// When the last CA in it expires.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) end: OffsetDateTime,
    #[serde(skip)]
    is_overdue: bool,
}

/// A file that a site file names and that holds no bundle.
#[derive(Debug)]
pub(crate) struct UnreadBundle {
    trust_domain: TrustDomain,
    file: PathBuf,
    fault: String,
}

/// The files that can be read and hold a CA. What is wrong with the others is said by the running
/// site, which reads them again and again.
pub(crate) fn of(site: &Site) -> Vec<BundleFile> {
    read_all(site).0
}

/// The same, with those that cannot be read.
pub(crate) fn read_all(site: &Site) -> (Vec<BundleFile>, Vec<UnreadBundle>) {
    let (start, now) = (Instant::now(), OffsetDateTime::now_utc());
    let (mut files, mut unread) = (Vec::new(), Vec::new());
    for peer in site.peers.values() {
        let (path, bootstrap) = match &peer.bundle {
            BundleSource::File(path) => (path, false),
            BundleSource::HttpsSpiffe { bootstrap, .. } => (bootstrap, true),
            BundleSource::HttpsWeb { .. }
            | BundleSource::Identity(_)
            | BundleSource::Federation => continue,
        };
        let limit = LIMIT.min(TOTAL.saturating_sub(start.elapsed()));
        let (trust_domain, file) = (peer.trust_domain.clone(), path.clone());
        match read(limit, path, &peer.trust_domain) {
            Ok(end) => files.push(BundleFile {
                trust_domain,
                file,
                bootstrap,
                end: end.not_after,
                is_overdue: end.overdue_from() <= now,
            }),
            Err(fault) => unread.push(UnreadBundle {
                trust_domain,
                file,
                fault,
            }),
        }
    }
    (files, unread)
}

fn read(limit: Duration, path: &Path, trust_domain: &TrustDomain) -> Result<BundleEnd, String> {
    let (owned, name) = (path.to_owned(), trust_domain.clone());
    let read = files::run_within(limit, Budget::Warnings, path, move || {
        files::read_file(files::open(&owned)?, MAX_DOCUMENT_BYTES)
    });
    let text = read.map_err(|error| error.to_string())?;
    let bundle = Bundle::parse_document(name, &text).map_err(|error| error.to_string())?;
    bundle.end().ok_or_else(|| "it has no CA".to_owned())
}

impl UnreadBundle {
    /// The fault as a sentence, and what to do.
    pub(crate) fn warning(&self) -> String {
        let Self {
            trust_domain,
            file,
            fault,
        } = self;
        format!(
            "{}, the bundle of {trust_domain}, cannot be used: {fault}; put there what `renkei \
             bundle show --output json` prints at {trust_domain}",
            file.display()
        )
    }
}

impl BundleFile {
    /// A sentence about a bundle that has expired, or will without a newer one.
    pub(crate) fn warning(&self) -> Option<String> {
        if !self.is_overdue {
            return None;
        }
        let (file, name, end) = (self.file.display(), &self.trust_domain, self.end);
        let what = match output::until(end).as_str() {
            "ended" => format!("{file}, the bundle of {name}, expired at {end}"),
            left => format!("{file}, the bundle of {name}, expires {left}, at {end}"),
        };
        Some(match self.bootstrap {
            true => format!(
                "{what}: a site that has fetched no newer bundle by then cannot link with {name}; \
                 put the peer's present bundle there before the first start"
            ),
            false => format!(
                "{what}: afterwards connections with {name} fail; put the peer's present bundle \
                 there"
            ),
        })
    }
}
