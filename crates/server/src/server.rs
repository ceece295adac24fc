//! The server role put together: state folder, authority, entries, endpoints and peers.

use std::{path::PathBuf, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use renkei_api::{
    issue::{CertificateIssuer, IssueError, IssueFuture, SvidRequest},
    node::AgentPart,
    status::{AuthorityStatus, ServerStatus},
};
use renkei_runtime::{clock, supervise::Supervisor};
use renkei_site::ServerPart;
use renkei_spiffe::{BundleSet, TrustDomain};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    AuthorityError, EndpointError, ServerMetrics, SignError, SpiffeEndpoint, StoreError,
    authority::{Authority, CaLifetimes, Reading},
    bundles::Bundles,
    endpoint::WebEndpoints,
    entries::{Entries, of_file},
    federation::{self, Federator, Members},
    keys::KeyManager,
    peers::Peers,
    store::{DataStore, EntrySource, SqliteStore},
    time_source::Clock,
};

/// The wall clock is looked at again at least so often: it may have been set, or the machine may
/// have slept.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
const SHORTEST_SLEEP: Duration = Duration::from_millis(100);
/// After a step of rotation failed, for example because the disk is full.
const RETRY: Duration = Duration::from_secs(5);
/// How long an SVID waits for a CA that is valid.
const ROTATION_TIME: Duration = Duration::from_secs(3);
/// The round that runs when an SVID is asked for may have looked at the time before.
const ROUNDS: u32 = 2;
/// How long an SVID waits for its record.
const RECORD_TIME: Duration = Duration::from_secs(3);
/// How often the time is put on record.
const CLOCK_INTERVAL: Duration = Duration::from_secs(30);
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// Why the server cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The state folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The CA.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The https_web endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// What the server is made from.
pub struct ServerSettings {
    /// The state folder; made when it does not exist.
    pub state: PathBuf,
    /// What it is to do, as that changes.
    pub part: watch::Receiver<Arc<ServerPart>>,
    /// The process's provider of cryptography.
    pub provider: Arc<CryptoProvider>,
    /// Where to count.
    pub metrics: ServerMetrics,
    /// Where to take the time from.
    pub clock: Clock,
    /// The system's clock behind it, which is judged by what is on record.
    pub system: Option<clock::Clock>,
    /// Keeps the server's tasks running.
    pub tasks: Supervisor,
}

/// How far the entries of the site file are in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntriesState {
    /// The version of the part that has them.
    pub version: u64,
    /// Why those that were added are not in force yet.
    pub failed: Option<String>,
}

/// The authority of a trust domain. Cheap to clone.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    trust_domain: TrustDomain,
    store: Arc<dyn DataStore>,
    authority: Authority,
    entries: Entries,
    entries_state: watch::Sender<EntriesState>,
    /// Wakes the rotation before its time.
    rotation_due: Notify,
    /// Counts the rounds of the rotation.
    rounds: watch::Sender<u64>,
    bundles: Arc<Bundles>,
    document: watch::Sender<Bytes>,
    endpoint: SpiffeEndpoint,
    web: WebEndpoints,
    federator: Federator,
    peers: Peers,
    part: watch::Receiver<Arc<ServerPart>>,
    metrics: ServerMetrics,
    clock: Clock,
    system: Option<clock::Clock>,
    tasks: Supervisor,
}

impl Server {
    /// Opens the state folder, makes the first CA where there is none, and publishes the own
    /// bundle and the last good bundles of the peers. Nothing is fetched yet.
    pub async fn open(settings: ServerSettings) -> Result<Self, ServerError> {
        let ServerSettings {
            state,
            part,
            provider,
            metrics,
            clock,
            system,
            tasks,
        } = settings;
        let now_part = part.borrow().clone();
        let trust_domain = now_part.trust_domain.clone();
        let sqlite = SqliteStore::open(&state, &trust_domain).await?;
        let keys: Arc<dyn KeyManager> = Arc::new(sqlite.keys().clone());
        let store: Arc<dyn DataStore> = Arc::new(sqlite);
        if let Some(system) = &system {
            system.begin(store.clock_record().await?.as_ref());
        }
        let (lifetimes, now) = (ca_lifetimes(&now_part), clock());
        let time = Reading {
            now,
            ended: surely_ended(system.as_ref(), now),
        };
        let authority = Authority::open(
            (store.clone(), keys),
            trust_domain.clone(),
            &provider,
            lifetimes,
            time,
        )
        .await?;
        let entries = Entries::open(store.clone(), trust_domain.clone()).await?;
        let wanted = of_file(&now_part.entries);
        entries.replace(&EntrySource::FILE, &wanted, now).await?;
        let bundles = Arc::new(Bundles::new());
        let document = watch::Sender::new(Bytes::new());
        let checkpoint = watch::Sender::new(Bytes::new());
        let endpoint = SpiffeEndpoint::new(
            now_part.server_id.clone(),
            provider.clone(),
            document.subscribe(),
            checkpoint.subscribe(),
        );
        let web = WebEndpoints::open(
            &now_part,
            provider.clone(),
            document.subscribe(),
            tasks.clone(),
        )
        .await?;
        let federator = federation::Inputs {
            state: state.clone(),
            provider: provider.clone(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            document: document.subscribe(),
            checkpoint,
        };
        let federator = Federator::open(&now_part, federator).await;
        let peers = Peers::open(
            &now_part,
            store.clone(),
            provider,
            bundles.clone(),
            federator.members(),
            metrics.clone(),
            (clock.clone(), tasks.clone()),
        )
        .await?;
        let inner = Inner {
            trust_domain,
            store,
            authority,
            entries,
            entries_state: watch::Sender::new(EntriesState {
                version: now_part.version,
                failed: None,
            }),
            rotation_due: Notify::new(),
            rounds: watch::Sender::new(0),
            bundles,
            document,
            endpoint,
            web,
            federator,
            peers,
            part,
            metrics,
            clock,
            system,
            tasks,
        };
        inner.publish();
        inner.record_clock().await;
        Ok(Self(Arc::new(inner)))
    }

    /// The own bundle and those of the peers, as they change.
    pub fn bundles(&self) -> watch::Receiver<Arc<BundleSet>> {
        self.0.bundles.subscribe()
    }

    /// The members of the federation that count, as they change. Whoever composes the site links
    /// it with them (`Site::with_members`); their bundles are published once it is.
    pub fn members(&self) -> watch::Receiver<Members> {
        self.0.federator.members()
    }

    /// The bundle endpoint of the profile https_spiffe, for the gateway.
    pub fn endpoint(&self) -> SpiffeEndpoint {
        self.0.endpoint.clone()
    }

    /// The own bundle as a document.
    pub fn bundle_document(&self) -> String {
        self.0.authority.bundle().to_document()
    }

    /// How far the entries of the site file are in force, as that changes.
    pub fn entries_state(&self) -> watch::Receiver<EntriesState> {
        self.0.entries_state.subscribe()
    }

    /// What the site's agent holds and serves, as it changes.
    pub fn agent_part(&self) -> watch::Receiver<Arc<AgentPart>> {
        self.0.entries.agent_part()
    }

    async fn sign(&self, request: &SvidRequest) -> Result<Vec<CertificateDer<'static>>, SignError> {
        let signed = self.0.sign(request).await;
        match &signed {
            Ok(_) => self.0.metrics.issued(),
            Err(error) => {
                self.0.metrics.refused();
                tracing::warn!(entry = %request.entry, %error, "no SVID issued");
            }
        }
        signed.map(|certificate| vec![certificate])
    }

    /// Rotates the CA, follows the site, fetches the peers' bundles and serves the https_web
    /// endpoint until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let inner = &self.0;
        let (part, token) = (|| inner.part.clone(), || stop.clone());
        tokio::join!(
            inner.keep("ca rotation", &stop, || inner.keep_authority(token())),
            inner.keep("entries", &stop, || inner.keep_entries(token())),
            inner.keep("clock record", &stop, || inner.keep_clock(token())),
            inner.keep("records", &stop, || inner.keep_records(token())),
            inner.keep("federation", &stop, || inner.federator.run(part(), token())),
            inner.keep("peers", &stop, || inner.peers.run(part(), token())),
            inner.keep("bundle endpoint", &stop, || inner.web.run(part(), token())),
        );
    }

    /// For `renkei status`.
    pub async fn status(&self) -> Result<ServerStatus, StoreError> {
        self.0.status().await
    }

    /// Writes what is pending and closes the database; afterwards nothing can be issued.
    pub async fn close(&self) {
        self.0.record_clock().await;
        self.0.store.close().await;
    }
}

impl CertificateIssuer for Server {
    fn issue(&self, request: SvidRequest) -> IssueFuture<'_> {
        Box::pin(async move {
            self.sign(&request).await.map_err(|error| match error {
                SignError::UnknownEntry(_) | SignError::Request(_) => {
                    IssueError::Refused(error.to_string())
                }
                _ => IssueError::Unavailable(error.to_string()),
            })
        })
    }
}

/// The own bundle as a document, from a state folder, whether or not a server runs on it.
pub async fn stored_bundle_document(state: &std::path::Path) -> Result<String, StoreError> {
    let store = SqliteStore::open_read_only(state).await?;
    let bundle = crate::authority::stored_bundle(&store).await?;
    store.close().await;
    Ok(bundle.to_document())
}

impl Inner {
    async fn keep<F: Future<Output = ()>>(
        &self,
        name: &str,
        stop: &CancellationToken,
        start: impl FnMut() -> F,
    ) {
        let tasks = self.tasks.clone();
        tasks
            .run(name.to_owned(), || stop.is_cancelled(), start)
            .await;
    }

    fn publish(&self) {
        let bundle = self.authority.bundle();
        let ends = self.authority.authorities();
        self.metrics.bundle(
            bundle.sequence.unwrap_or_default(),
            ends.iter().map(|ca| (ca.state.as_str(), ca.not_after)),
        );
        let document = Bytes::from(bundle.to_document());
        // A round that changes nothing wakes no reader.
        self.document.send_if_modified(|present| {
            let is_new = *present != document;
            *present = document;
            is_new
        });
        self.bundles.put(bundle);
    }

    async fn sign(&self, request: &SvidRequest) -> Result<CertificateDer<'static>, SignError> {
        let id = self.entries.identity(&request.entry);
        let id = id.ok_or_else(|| SignError::UnknownEntry(request.entry.clone()))?;
        let lifetime = self.part.borrow().lifetimes.x509_svid;
        let now = (self.clock)();
        if self.authority.is_due(self.reading()) {
            self.rotation_due.notify_one();
        }
        let mut signed = self.authority.sign(&id, &request.csr, lifetime, now);
        let unusable = |error: &SignError| {
            matches!(
                error,
                SignError::AuthorityEnded { .. } | SignError::ClockBehind { .. }
            )
        };
        // After a long sleep of the machine no timer has run yet.
        for _ in 0..ROUNDS {
            if !(signed.as_ref().is_err_and(unusable) && self.next_round().await) {
                break;
            }
            signed = self.authority.sign(&id, &request.csr, lifetime, now);
        }
        let signed = signed?;
        // The record is for people; a disk that is full or gives no answer must not end the
        // site's traffic.
        let serial = &signed.record.serial;
        match tokio::time::timeout(RECORD_TIME, self.store.record_issued(&signed.record)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%id, serial, %error, "an issued SVID is not recorded")
            }
            Err(_) => {
                tracing::error!(%id, serial, "an issued SVID may not be recorded: the database does not answer")
            }
        }
        tracing::debug!(%id, serial = signed.record.serial, "issued an SVID");
        Ok(signed.certificate)
    }

    /// Waits until a round of the rotation ends.
    async fn next_round(&self) -> bool {
        let mut rounds = self.rounds.subscribe();
        let after = *rounds.borrow_and_update() + 1;
        self.rotation_due.notify_one();
        let done = rounds.wait_for(|rounds| *rounds >= after);
        let waited = tokio::time::timeout(ROTATION_TIME, done).await;
        waited.is_ok_and(|done| done.is_ok())
    }

    /// `false` when a step failed.
    async fn rotate(&self) -> bool {
        let lifetimes = ca_lifetimes(&self.part.borrow());
        let rotated = self.authority.rotate(lifetimes, self.reading()).await;
        // A failure may come after a step that did succeed.
        self.publish();
        if let Err(error) = &rotated {
            tracing::error!(%error, "the CA could not be rotated; the present one stays");
        }
        self.rounds.send_modify(|rounds| *rounds += 1);
        rotated.is_ok()
    }

    async fn keep_authority(&self, stop: CancellationToken) {
        let mut part = self.part.clone();
        loop {
            part.mark_unchanged();
            let rotated = self.rotate().await;
            let pause = match rotated {
                true => self.until_next_step(),
                false => RETRY,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
                // After a failure, requests do not shorten the pause.
                () = self.rotation_due.notified(), if rotated => {}
                Ok(()) = part.changed() => {}
            }
        }
    }

    fn until_next_step(&self) -> Duration {
        let left = self.authority.next_step() - (self.clock)();
        // What should have been done by now waits for a clock that is settled.
        Duration::try_from(left)
            .unwrap_or(LONGEST_SLEEP)
            .clamp(SHORTEST_SLEEP, LONGEST_SLEEP)
    }

    fn reading(&self) -> Reading {
        let now = (self.clock)();
        let ended = surely_ended(self.system.as_ref(), now);
        Reading { now, ended }
    }

    /// For the next start, which compares its clock with it.
    async fn record_clock(&self) {
        let Some(system) = &self.system else { return };
        if let Err(error) = self.store.keep_clock(&system.record()).await {
            tracing::warn!(%error, "the time could not be recorded");
        }
    }

    async fn keep_clock(&self, stop: CancellationToken) {
        loop {
            self.record_clock().await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CLOCK_INTERVAL) => {}
            }
        }
    }

    async fn keep_entries(&self, stop: CancellationToken) {
        let mut part = self.part.clone();
        loop {
            let version = self.limit_entries(&mut part);
            let written = self.write_entries(&mut part).await;
            let failed = written.err().map(|error| error.to_string());
            if let Some(error) = &failed {
                tracing::error!(error, retry_in = ?RETRY, "new entries of the site file are not in force");
            }
            let retry = failed.is_some();
            self.entries_state
                .send_replace(EntriesState { version, failed });
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY), if retry => {}
                changed = part.changed() => if changed.is_err() {
                    return stop.cancelled().await;
                }
            }
        }
    }

    /// Ends what the site file no longer has.
    fn limit_entries(&self, part: &mut watch::Receiver<Arc<ServerPart>>) -> u64 {
        let now = part.borrow_and_update().clone();
        self.entries
            .limit(&EntrySource::FILE, of_file(&now.entries));
        now.version
    }

    /// What the file no longer has ends also while the database is waited for.
    async fn write_entries(
        &self,
        part: &mut watch::Receiver<Arc<ServerPart>>,
    ) -> Result<(), StoreError> {
        let mut written = pin!(self.entries.write(&EntrySource::FILE, (self.clock)()));
        let mut again = false;
        let done = loop {
            tokio::select! {
                biased;
                done = &mut written => break done,
                Ok(()) = part.changed() => {
                    self.limit_entries(part);
                    again = true;
                }
            }
        };
        if again {
            part.mark_changed();
        }
        done
    }

    async fn keep_records(&self, stop: CancellationToken) {
        loop {
            let time = self.reading();
            if let Some(ended) = time.ended
                && let Err(error) = self.store.prune_issued(ended).await
            {
                tracing::warn!(%error, "records of expired SVIDs could not be deleted");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PRUNE_INTERVAL) => {}
            }
        }
    }

    async fn status(&self) -> Result<ServerStatus, StoreError> {
        let bundle = self.authority.bundle();
        let authorities = self
            .authority
            .authorities()
            .into_iter()
            .map(|ca| AuthorityStatus {
                id: ca.id,
                state: ca.state,
                not_before: ca.not_before,
                not_after: ca.not_after,
            });
        let federation = self.federator.status();
        let mut peers = self.peers.status();
        let mirrors = federation.iter().flat_map(|federation| &federation.mirrors);
        let read = mirrors.filter_map(|mirror| mirror.last_success).max();
        for peer in peers.iter_mut().filter(|p| p.profile == "federation") {
            peer.last_success = read;
        }
        Ok(ServerStatus {
            trust_domain: self.trust_domain.clone(),
            bundle_sequence: bundle.sequence.unwrap_or_default(),
            bundle_refresh_seconds: bundle.refresh_hint.unwrap_or_default().as_secs(),
            authorities: authorities.collect(),
            entries: self.entries.status(),
            valid_svids: self.store.valid_svids((self.clock)()).await?,
            peers,
            federation,
            bundle_endpoint: self.web.status(),
        })
    }
}

/// What has ended by the returned time may be deleted.
fn surely_ended(system: Option<&clock::Clock>, now: OffsetDateTime) -> Option<OffsetDateTime> {
    system.map_or(Some(now), clock::Clock::surely_ended)
}

fn ca_lifetimes(part: &ServerPart) -> CaLifetimes {
    CaLifetimes {
        ca: part.lifetimes.ca,
        refresh_hint: part.lifetimes.bundle_refresh,
    }
}

#[cfg(test)]
mod tests;
