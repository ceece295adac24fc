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

/// The files that can be read and hold a CA. What is wrong with the others is said by the running
/// site, which reads them again and again.
pub(crate) fn of(site: &Site) -> Vec<BundleFile> {
    let (start, now) = (Instant::now(), OffsetDateTime::now_utc());
    let files = site.peers.values().filter_map(|peer| {
        let (path, bootstrap) = match &peer.bundle {
            BundleSource::File(path) => (path, false),
            BundleSource::HttpsSpiffe { bootstrap, .. } => (bootstrap, true),
            BundleSource::HttpsWeb { .. }
            | BundleSource::Identity(_)
            | BundleSource::Federation => return None,
        };
        let limit = LIMIT.min(TOTAL.saturating_sub(start.elapsed()));
        let end = read(limit, path, &peer.trust_domain)?;
        Some(BundleFile {
            trust_domain: peer.trust_domain.clone(),
            file: path.clone(),
            bootstrap,
            end: end.not_after,
            is_overdue: end.overdue_from() <= now,
        })
    });
    files.collect()
}

fn read(limit: Duration, path: &Path, trust_domain: &TrustDomain) -> Option<BundleEnd> {
    let (owned, name) = (path.to_owned(), trust_domain.clone());
    let read = files::run_within(limit, Budget::Warnings, path, move || {
        files::read_file(files::open(&owned)?, MAX_DOCUMENT_BYTES)
    });
    Bundle::parse_document(name, &read.ok()?).ok()?.end()
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
