//! A peer that is known by its identity. Its record is verified at every fetch, by what was seen of
//! it before; what was seen is kept, and never falls.
//!
//! It fetches nothing and publishes nothing: the loop of the peer does.

use std::sync::Arc;

use renkei_api::status::PeerIdentityStatus;
use renkei_federation::{
    Digest, Pin, Reason, SiteNews, SiteRecord, SiteRefusal, SiteSeen, Verified,
};
use renkei_site::{BundleSource, PinnedIdentity};
use renkei_spiffe::{Bundle, TrustDomain};
use time::OffsetDateTime;

use super::{Context, PeerFetchError};
use crate::{
    federation::withdrawals_of,
    store::{SiteRow, StoreError},
};

/// What is known of such a peer.
pub(super) struct SitePeer {
    written: PinnedIdentity,
    pin: Pin,
    context: Arc<Context>,
    row: Option<SiteRow>,
    /// What its last valid record says.
    verified: Option<Verified>,
    loaded: bool,
    /// Why what was seen could not be stored, if it could not.
    unstored: Option<String>,
}

impl SitePeer {
    pub(super) fn of(
        name: &TrustDomain,
        source: &BundleSource,
        context: &Arc<Context>,
    ) -> Option<Self> {
        let BundleSource::Identity(written) = source else {
            return None;
        };
        let pin = Pin {
            trust_domain: name.clone(),
            // The site file's reader has seen to its form.
            identity: Digest::parse(&written.digest).ok()?,
            at_least: written.at_least,
        };
        Some(Self {
            written: written.clone(),
            pin,
            context: context.clone(),
            row: None,
            verified: None,
            loaded: false,
            unstored: None,
        })
    }

    /// The bundle that is valid now, and when it was fetched.
    pub(super) fn bundle(&self) -> Option<(Bundle, OffsetDateTime)> {
        let fetched_at = self.row.as_ref()?.fetched_at;
        Some((self.verified.as_ref()?.bundle.clone(), fetched_at))
    }

    /// When that ceases to be valid, unless a newer record comes.
    pub(super) fn end(&self) -> Option<OffsetDateTime> {
        self.verified.as_ref().map(|verified| verified.expires)
    }

    pub(super) fn unstored(&self) -> Option<&String> {
        self.unstored.as_ref()
    }

    pub(super) fn status(&self) -> PeerIdentityStatus {
        let seen = self.row.as_ref().map(|row| &row.seen);
        PeerIdentityStatus {
            identity: self.written.to_string(),
            root_version: seen.map(|seen| seen.root_version),
            sequence: seen.map(|seen| seen.sequence),
            expires: self.end(),
            withdrawn: seen.and_then(|seen| seen.withdrawn.clone()),
        }
    }

    /// Takes up what is in the store, and drops what has ceased to be valid. A store that cannot be
    /// read is an error: without what was seen before, anything older would be accepted.
    pub(super) async fn review(&mut self, now: OffsetDateTime) -> Result<(), PeerFetchError> {
        if !self.loaded {
            self.row = self.context.store.site(self.pin.identity).await?;
            self.loaded = true;
        }
        let before = self.verified.take();
        let Some(row) = self.row.clone() else {
            return Ok(());
        };
        let Some(record) = &row.record else {
            return withdrawn(&row.seen);
        };
        let record = SiteRecord::parse(record).map_err(SiteRefusal::from);
        match record.and_then(|record| self.verify(record, now)) {
            Ok(news) => match news.standing {
                Ok(verified) => self.verified = Some(verified),
                Err(_) => self.ended(row, news.seen).await,
            },
            // The clock of this host was set back.
            Err(SiteRefusal::Time(_)) => self.verified = before,
            Err(error) => {
                tracing::error!(peer = %self.pin.trust_domain, %error, "the stored record of the peer is not used");
                self.row = Some(SiteRow {
                    record: None,
                    ..row
                });
            }
        }
        self.row.as_ref().map_or(Ok(()), |row| withdrawn(&row.seen))
    }

    async fn ended(&mut self, row: SiteRow, seen: SiteSeen) {
        let record = None;
        self.keep(SiteRow {
            seen,
            record,
            ..row
        })
        .await;
    }

    /// Verifies and keeps a record that was fetched.
    pub(super) async fn accept(
        &mut self,
        bytes: &[u8],
        now: OffsetDateTime,
    ) -> Result<(), PeerFetchError> {
        let is_bundle = || Bundle::parse_document(self.pin.trust_domain.clone(), bytes).is_ok();
        let record = match SiteRecord::parse(bytes) {
            Ok(record) => record,
            // Releases before identities answer every path with the bundle.
            Err(_) if is_bundle() => return Err(PeerFetchError::NoRecord),
            Err(error) => return Err(SiteRefusal::from(error).into()),
        };
        let news = self.verify(record, now)?;
        let before = self.row.as_ref().map(|row| row.seen.clone());
        self.tell(before.as_ref(), &news);
        let is_newer = before.is_none_or(|before| before.root_version < news.seen.root_version);
        let (valid, reason) = match news.standing {
            Ok(verified) => (Some(verified), None),
            Err(reason) => (None, Some(reason)),
        };
        let gone = is_newer || news.seen.withdrawn.is_some();
        let record = match (&valid, gone) {
            (Some(_), _) => Some(bytes.to_vec()),
            // Said under an earlier site root, whose online keys may have been stolen.
            (None, true) => None,
            (None, false) => self.row.as_ref().and_then(|row| row.record.clone()),
        };
        if valid.is_some() || gone {
            self.verified = valid;
        }
        let row = SiteRow {
            identity: self.pin.identity,
            seen: news.seen,
            record,
            fetched_at: match (&reason, &self.row) {
                (Some(_), Some(row)) => row.fetched_at,
                _ => now,
            },
        };
        self.keep(row).await;
        match reason {
            Some(reason) => Err(PeerFetchError::NotValid(reason)),
            None => Ok(()),
        }
    }

    /// With a withdrawal that was imported here, if the peer's keys have signed it.
    fn verify(&self, record: SiteRecord, now: OffsetDateTime) -> Result<SiteNews, SiteRefusal> {
        let seen = self.row.as_ref().map(|row| &row.seen);
        let bundle = self.verified.as_ref().map(|verified| &verified.bundle);
        let imported = withdrawals_of(&self.context.state, self.pin.identity);
        for withdrawal in imported {
            let Some(with) = record.clone().with_withdrawal(withdrawal) else {
                continue;
            };
            match with.verify(&self.pin, seen, bundle, now) {
                Ok(news) => return Ok(news),
                Err(error) => {
                    tracing::debug!(peer = %self.pin.trust_domain, %error, "an imported withdrawal is not used");
                }
            }
        }
        record.verify(&self.pin, seen, bundle, now)
    }

    fn tell(&self, before: Option<&SiteSeen>, news: &SiteNews) {
        let (peer, version) = (&self.pin.trust_domain, news.seen.root_version);
        match before {
            None => tracing::info!(
                %peer,
                version,
                "first contact with the peer by its identity; it may show an old state: compare the version of its site root with what renkei identity prints there, or write IDENTITY@VERSION"
            ),
            Some(before) if before.root_version < version => {
                tracing::info!(%peer, version, "accepted a new version of the peer's site root");
            }
            Some(_) => {}
        }
    }

    /// What was seen is in force at once, whatever the disk says.
    async fn keep(&mut self, row: SiteRow) {
        let changed = self.row.as_ref() != Some(&row) || self.unstored.is_some();
        self.row = Some(row.clone());
        if !changed {
            return;
        }
        let before = self.unstored.take();
        if let Err(error) = self.context.store.keep_site(&row).await {
            self.not_stored(before, error);
        }
    }

    fn not_stored(&mut self, before: Option<String>, error: StoreError) {
        let error = PeerFetchError::Store(error);
        let name = &self.pin.trust_domain;
        self.context.metrics.fetch_failed(name, error.label());
        let text = error.to_string();
        if before.as_ref() != Some(&text) {
            tracing::warn!(peer = %name, error = %text, "what was seen of the peer could not be stored: after a restart it may show an older state");
        }
        self.unstored = Some(text);
    }
}

fn withdrawn(seen: &SiteSeen) -> Result<(), PeerFetchError> {
    match seen.withdrawn.clone() {
        Some(why) => Err(PeerFetchError::NotValid(Reason::Withdrawn { why })),
        None => Ok(()),
    }
}
