//! The loop of one peer: fetch, judge, keep, publish, wait. Whatever goes wrong is noted, and the
//! last good bundle stays in use.

use std::{io, path::Path, sync::Arc, time::Duration};

use renkei_api::status::PeerStatus;
use renkei_runtime::backoff::jitter;
use renkei_site::{BundleSource, PeerBundle};
use renkei_spiffe::{Bundle, BundleSet, TrustDomain};
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::{
    Context,
    accept::{self, Acceptance},
    schedule,
    site::SitePeer,
    source::{PeerFetchError, read_file},
};
use crate::store::PeerRow;

/// Fetches and keeps the bundle of one peer.
pub(super) struct PeerLoop {
    trust_domain: TrustDomain,
    pub(super) peer: PeerBundle,
    own_refresh: Duration,
    context: Arc<Context>,
    pub(super) known: Option<PeerRow>,
    /// What is known of a peer with an identity, which takes the place of the bundle's own rules.
    site: Option<SitePeer>,
    /// Why what is known could not be stored, if it could not.
    unstored: Option<String>,
    failures: u32,
    /// There was a good fetch since the loop began.
    established: bool,
    /// The last failure was about a file of this site.
    waits_for_file: bool,
    last_error: Option<String>,
    /// The end of a bundle that was warned of.
    warned_of: Option<OffsetDateTime>,
}

impl PeerLoop {
    pub(super) fn new(
        (trust_domain, peer): (TrustDomain, PeerBundle),
        own_refresh: Duration,
        context: Arc<Context>,
        known: Option<PeerRow>,
    ) -> Self {
        let site = SitePeer::of(&trust_domain, &peer.source, &context);
        Self {
            trust_domain,
            peer,
            own_refresh,
            context,
            known,
            site,
            unstored: None,
            failures: 0,
            established: false,
            waits_for_file: false,
            last_error: None,
            warned_of: None,
        }
    }

    /// Runs until it is dropped. `wake` ends a pause.
    pub(super) async fn run(mut self, wake: &Notify) {
        self.show_known();
        loop {
            let pause = self.round().await;
            let next = (self.context.clock)() + pause;
            self.show(|status| status.next_fetch = Some(next));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = wake.notified() => {}
            }
        }
    }

    /// One refresh, and the time until the next.
    pub(super) async fn round(&mut self) -> Duration {
        match self.refresh().await {
            Ok(()) => self.succeeded(),
            Err(error) => self.failed(&error),
        }
        self.warn_of_end();
        self.pause()
    }

    /// From now on the bundle comes from there.
    #[cfg(test)]
    pub(super) fn set_source(&mut self, source: BundleSource) {
        self.peer.source = source;
    }

    fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    fn pause(&self) -> Duration {
        let hint = self
            .known
            .as_ref()
            .and_then(|known| known.bundle.refresh_hint);
        let interval = schedule::interval(hint, self.own_refresh);
        let pause = jitter(match self.failures {
            0 => interval,
            failures if self.site.is_some() => schedule::site_retry(interval, failures),
            _ if self.established && !self.waits_for_file => interval,
            failures => schedule::first_retry(interval, failures),
        });
        // What ceases to be valid is dropped then, not a while later.
        let end = self.site.as_ref().and_then(SitePeer::end);
        let left = end.map(|end| end - (self.context.clock)());
        match left.and_then(|left| Duration::try_from(left).ok()) {
            Some(left) => pause.min(left),
            None => pause,
        }
    }

    pub(super) async fn refresh(&mut self) -> Result<(), PeerFetchError> {
        let fetcher = self.context.fetcher.clone();
        let document = match self.peer.source.clone() {
            BundleSource::Identity(_) => return self.refresh_site().await,
            // Such a peer has no loop.
            BundleSource::Federation => return Ok(()),
            BundleSource::File(path) => {
                let bundle = read_file(&path, self.trust_domain())?.bundle;
                return self.accept(bundle).await;
            }
            BundleSource::HttpsWeb { url, roots } => fetcher.web(&url, roots.as_deref()).await?,
            BundleSource::HttpsSpiffe {
                url,
                endpoint_id,
                bootstrap,
            } => {
                self.read_bootstrap(&bootstrap).await?;
                let way = self.peer.way.as_ref();
                let fetched = fetcher
                    .spiffe(&url, way, &endpoint_id, self.trusted())
                    .await;
                fetched.map_err(|error| self.because_of_end(error, &bootstrap))?
            }
        };
        let bundle = Bundle::parse_document(self.trust_domain().clone(), &document)?;
        self.accept(bundle).await
    }

    /// What has ceased to be valid is dropped before anybody is asked for something newer.
    async fn refresh_site(&mut self) -> Result<(), PeerFetchError> {
        let Some(site) = &mut self.site else {
            return Ok(());
        };
        let reviewed = site.review((self.context.clock)()).await;
        self.publish_site();
        reviewed?;
        let way = self.peer.way.as_ref().ok_or(PeerFetchError::NoWay)?;
        let record = self.context.fetcher.record(way).await?;
        let Some(site) = &mut self.site else {
            return Ok(());
        };
        let accepted = site.accept(&record, (self.context.clock)()).await;
        self.publish_site();
        accepted
    }

    /// Publishes the bundle that is valid now, or takes the last one out.
    fn publish_site(&mut self) {
        let Some(site) = &self.site else { return };
        let (name, context) = (self.trust_domain.clone(), self.context.clone());
        let before = self.known.take();
        match site.bundle() {
            Some((bundle, fetched_at)) => {
                if before.is_none_or(|before| before.bundle != bundle) {
                    tracing::info!(peer = %name, sequence = bundle.sequence, authorities = bundle.x509_authorities.len(), "accepted a peer's bundle");
                }
                context.bundles.put(bundle.clone());
                self.known = Some(PeerRow {
                    bundle,
                    fetched_at,
                    bootstrap: None,
                });
            }
            None => {
                if before.is_some() {
                    tracing::warn!(peer = %name, "nothing of the peer is valid any more: its connections end until something newer comes");
                }
                context.bundles.remove(&name);
                context.states.drop_bundle(&name);
                context.metrics.bundle_end(&name, None);
            }
        }
        let status = site.status();
        self.unstored = site.unstored().cloned();
        context.metrics.peer_site(&name, &status);
        self.show(|shown| shown.identity = Some(status));
        self.show_known();
    }

    /// What an https_spiffe endpoint is verified by: the last good bundle of the peer. The others
    /// matter only for an endpoint ID of a third trust domain.
    fn trusted(&self) -> Arc<BundleSet> {
        let mut trusted = BundleSet::clone(&self.context.bundles.snapshot());
        if let Some(known) = &self.known {
            trusted.insert(Arc::new(known.bundle.clone()));
        }
        Arc::new(trusted)
    }

    async fn accept(&mut self, mut bundle: Bundle) -> Result<(), PeerFetchError> {
        let known = self.known.as_ref().map(|known| &known.bundle);
        let acceptance = accept::judge(known, &bundle)?;
        if let Some(known) = known.filter(|_| bundle.x509_authorities.is_empty()) {
            // What it does not say stays: the floor of later sequences, and when to look again.
            bundle.sequence = bundle.sequence.or(known.sequence);
            bundle.refresh_hint = bundle.refresh_hint.or(known.refresh_hint);
        }
        if acceptance == Acceptance::NewKeys {
            tracing::info!(
                peer = %bundle.trust_domain,
                sequence = bundle.sequence,
                authorities = bundle.x509_authorities.len(),
                "accepted a peer's bundle"
            );
        }
        let bootstrap = self.known.as_ref().and_then(|known| known.bootstrap);
        self.keep(bundle, bootstrap).await
    }

    /// The bootstrap file is where trust in an https_spiffe peer starts. When an operator
    /// of this site puts another one in place, trust starts from that one, at any sequence. So a
    /// peer is followed that has lost its CA.
    async fn read_bootstrap(&mut self, path: &Path) -> Result<(), PeerFetchError> {
        let file = match read_file(path, self.trust_domain()) {
            Ok(file) => file,
            Err(_) if self.known.is_some() => return Ok(()),
            Err(PeerFetchError::File { path, source })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Err(PeerFetchError::NoBootstrap { path });
            }
            Err(error) => return Err(error),
        };
        let keys = &file.bundle.x509_authorities;
        match &mut self.known {
            Some(known) if known.bootstrap == Some(file.hash) => Ok(()),
            None if keys.is_empty() => Err(PeerFetchError::EmptyBootstrap {
                path: path.to_owned(),
            }),
            // Nothing in it is new: a later copy of what is known already.
            Some(known)
                if !keys.is_empty()
                    && keys
                        .iter()
                        .all(|key| known.bundle.x509_authorities.contains(key)) =>
            {
                let bundle = known.bundle.clone();
                self.keep(bundle, Some(file.hash)).await
            }
            _ => {
                tracing::info!(peer = %self.trust_domain(), file = %path.display(), "trust starts from the bootstrap file");
                self.keep(file.bundle, Some(file.hash)).await
            }
        }
    }

    async fn keep(
        &mut self,
        bundle: Bundle,
        bootstrap: Option<[u8; 32]>,
    ) -> Result<(), PeerFetchError> {
        let trusted = |bundle: &Bundle| !bundle.x509_authorities.is_empty();
        if !trusted(&bundle) && self.known.as_ref().is_none_or(|row| trusted(&row.bundle)) {
            tracing::warn!(peer = %bundle.trust_domain, "the peer's bundle has no X.509 authorities: its connections are refused until a bundle with one comes");
        }
        let fetched_at = (self.context.clock)();
        let row = PeerRow {
            bundle,
            fetched_at,
            bootstrap,
        };
        // In use at once, whatever the disk says: a CA that was withdrawn must not stay.
        self.context.bundles.put(row.bundle.clone());
        self.known = Some(row.clone());
        self.show_known();
        self.store(&row).await;
        Ok(())
    }

    /// Stores the bundle for the next start. What cannot be stored is tried again with the next
    /// fetch, which stores what is known even if it is the same.
    async fn store(&mut self, row: &PeerRow) {
        let before = self.unstored.take();
        match self.context.store.keep_peer_bundle(row).await {
            Ok(()) if before.is_some() => {
                tracing::info!(peer = %self.trust_domain(), "the peer's bundle is stored again");
            }
            Ok(()) => {}
            Err(error) => {
                let error = PeerFetchError::Store(error);
                let metrics = &self.context.metrics;
                metrics.fetch_failed(self.trust_domain(), error.label());
                let text = error.to_string();
                if before.as_ref() != Some(&text) {
                    tracing::warn!(peer = %self.trust_domain(), error = %text, "the peer's bundle is in use, but could not be stored: a restart begins with an older one");
                }
                self.unstored = Some(text);
            }
        }
    }

    fn succeeded(&mut self) {
        if self.last_error.take().is_some() {
            tracing::info!(peer = %self.trust_domain(), "the peer's bundle is fetched again");
        }
        self.failures = 0;
        self.established = true;
        let now = (self.context.clock)();
        self.context.metrics.fetched(self.trust_domain(), now);
        let unstored = self.unstored.as_ref();
        let unstored = unstored.map(|why| format!("the bundle is in use, but not stored: {why}"));
        self.show(|status| {
            status.last_success = Some(now);
            status.last_error = unstored;
        });
    }

    /// The same failure again and again is one line in the log.
    fn failed(&mut self, error: &PeerFetchError) {
        // A file that is still to come is looked for at short intervals: that costs nothing.
        let to_come = matches!(
            error,
            PeerFetchError::NoBootstrap { .. } | PeerFetchError::EmptyBootstrap { .. }
        );
        self.waits_for_file = to_come || matches!(self.peer.source, BundleSource::File(_));
        self.failures = match to_come {
            true => 1,
            false => self.failures.saturating_add(1),
        };
        self.context
            .metrics
            .fetch_failed(self.trust_domain(), error.label());
        let text = error.to_string();
        if self.last_error.as_ref() != Some(&text) {
            tracing::warn!(peer = %self.trust_domain(), error = %text, "the peer's bundle could not be refreshed");
        }
        self.show(|status| status.last_error = Some(text.clone()));
        self.last_error = Some(text);
    }

    /// A new bundle in time costs nothing; one that is late ends the link until people act.
    fn warn_of_end(&mut self) {
        let end = self.known.as_ref().and_then(|known| known.bundle.end());
        let Some(end) = end.filter(|end| end.overdue_from() <= (self.context.clock)()) else {
            return;
        };
        let end = end.not_after;
        if self.warned_of.replace(end) != Some(end) {
            tracing::warn!(
                peer = %self.trust_domain(),
                %end,
                "the peer's bundle expires at this time, and no newer one has come: afterwards its connections fail"
            );
        }
    }

    /// Once all CAs that are known here have expired, nothing can verify the endpoint.
    fn because_of_end(&self, error: PeerFetchError, bootstrap: &Path) -> PeerFetchError {
        let refused = matches!(
            error,
            PeerFetchError::UnknownCa(_) | PeerFetchError::Refused(_)
        );
        let end = self.known.as_ref().and_then(|known| known.bundle.end());
        let ended = end.filter(|end| end.not_after <= (self.context.clock)());
        match ended.filter(|_| refused) {
            Some(end) => PeerFetchError::BundleEnded {
                trust_domain: self.trust_domain.clone(),
                end: end.not_after,
                path: bootstrap.to_owned(),
            },
            None => error,
        }
    }

    fn show_known(&self) {
        let Some(known) = &self.known else { return };
        self.context.states.take(self.trust_domain(), &known.bundle);
        self.context
            .metrics
            .bundle_end(self.trust_domain(), known.bundle.end());
        self.show(|status| {
            status.last_success.get_or_insert(known.fetched_at);
        });
    }

    fn show(&self, change: impl FnOnce(&mut PeerStatus)) {
        self.context.states.update(self.trust_domain(), change);
    }
}
