//! The bundles of the site's peers: one loop for each, so that none waits for another, started,
//! stopped and replaced as the site file changes.

mod accept;
mod any_server;
mod peer;
mod schedule;
mod site;
mod source;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use renkei_api::status::PeerStatus;
use renkei_runtime::supervise::Supervisor;
use renkei_site::{BundleSource, PeerBundle, ServerPart};
use renkei_spiffe::TrustDomain;
use rustls::crypto::CryptoProvider;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub use accept::BundleRefusal;
pub use source::PeerFetchError;

use self::{peer::PeerLoop, site::SitePeer, source::Fetcher, state::PeerStates};
use crate::{
    Clock, ServerMetrics,
    bundles::Bundles,
    federation::Members,
    store::{DataStore, PeerRow, StoreError},
};

/// For one fetch, from the name lookup to the last byte.
const FETCH_TIME: Duration = Duration::from_secs(10);

/// What every loop needs.
struct Context {
    store: Arc<dyn DataStore>,
    fetcher: Fetcher,
    bundles: Arc<Bundles>,
    states: PeerStates,
    metrics: ServerMetrics,
    clock: Clock,
    tasks: Supervisor,
    /// The state folder, where withdrawals are imported.
    state: PathBuf,
}

/// What the loops take from the process.
pub(crate) struct Surroundings {
    pub(crate) clock: Clock,
    pub(crate) tasks: Supervisor,
    pub(crate) state: PathBuf,
}

impl Context {
    /// The last good bundle of a peer.
    async fn kept(&self, trust_domain: &TrustDomain) -> Option<PeerRow> {
        let kept = self.store.peer_bundle(trust_domain).await;
        kept.unwrap_or_else(|error| {
            tracing::error!(peer = %trust_domain, %error, "the cached bundle is not used");
            None
        })
    }
}

/// The loops of all peers.
pub(crate) struct Peers {
    own: TrustDomain,
    /// The verified bundles of a federation.
    members: watch::Receiver<Members>,
    context: Arc<Context>,
    /// The files that the site file names may have changed.
    read_files: Notify,
}

/// A running loop and what it was started with.
struct Running {
    bundle: PeerBundle,
    own_refresh: Duration,
    /// Ends the pause before the next fetch.
    wake: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peers {
    /// Publishes the last good bundles of the site's peers, and forgets those that are no
    /// peers any longer.
    pub(crate) async fn open(
        part: &ServerPart,
        store: Arc<dyn DataStore>,
        provider: Arc<CryptoProvider>,
        bundles: Arc<Bundles>,
        members: watch::Receiver<Members>,
        metrics: ServerMetrics,
        around: Surroundings,
    ) -> Result<Self, StoreError> {
        for row in store.peer_bundles().await? {
            let peer = part.peers.get(&row.bundle.trust_domain);
            match peer.is_some_and(|peer| !matches!(peer.source, BundleSource::Identity(_))) {
                true => bundles.put(row.bundle),
                false => store.forget_peer(&row.bundle.trust_domain).await?,
            }
        }
        let fetcher = Fetcher {
            provider,
            limit: FETCH_TIME,
        };
        let states = PeerStates::default();
        let context = Context {
            store,
            fetcher,
            bundles,
            states,
            metrics,
            clock: around.clock,
            tasks: around.tasks,
            state: around.state,
        };
        let peers = Self {
            own: part.trust_domain.clone(),
            members,
            context: Arc::new(context),
            read_files: Notify::new(),
        };
        peers.take_up_sites(part).await?;
        Ok(peers)
    }

    /// Publishes what is still valid of peers that are known by their identity.
    async fn take_up_sites(&self, part: &ServerPart) -> Result<(), StoreError> {
        for (name, peer) in &part.peers {
            let Some(mut site) = SitePeer::of(name, &peer.source, &self.context) else {
                continue;
            };
            if let Err(PeerFetchError::Store(error)) = site.review((self.context.clock)()).await {
                return Err(error);
            }
            if let Some((bundle, _)) = site.bundle() {
                self.context.bundles.put(bundle);
            }
        }
        Ok(())
    }

    /// Follows the site until `stop`.
    pub(crate) async fn run(
        &self,
        mut part: watch::Receiver<Arc<ServerPart>>,
        stop: CancellationToken,
    ) {
        let mut running = BTreeMap::new();
        let mut members = self.members.clone();
        loop {
            let now = part.borrow_and_update().clone();
            let verified = members.borrow_and_update().clone();
            self.reconcile(&now, &mut running).await;
            self.take_members(&now, &verified);
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = members.changed() => {}
                () = self.read_files.notified() => wake_readers_of_files(&running),
                changed = part.changed() => if changed.is_err() {
                    return stop.cancelled().await;
                }
            }
        }
    }

    /// Reads the files of all peers again at once, as when the site file is applied. Not at
    /// every change of the part: others cause some, and an endpoint is not asked for their sake.
    pub(crate) fn read_files_again(&self) {
        self.read_files.notify_one();
    }

    /// The state of every peer.
    pub(crate) fn status(&self) -> Vec<PeerStatus> {
        self.context.states.all()
    }

    async fn reconcile(&self, part: &ServerPart, running: &mut BTreeMap<TrustDomain, Running>) {
        let published = self.context.bundles.snapshot();
        let known = published
            .iter()
            .map(|bundle| &bundle.trust_domain)
            .chain(running.keys());
        let gone: BTreeSet<TrustDomain> = known
            .filter(|known| **known != self.own && !part.peers.contains_key(*known))
            .cloned()
            .collect();
        for trust_domain in gone {
            if let Some(before) = running.remove(&trust_domain) {
                end(before).await;
            }
            self.forget(&trust_domain).await;
        }
        let own_refresh = part.lifetimes.bundle_refresh;
        // No peer speaks for the own trust domain.
        for (name, peer) in part.peers.iter().filter(|(name, _)| **name != self.own) {
            if peer.source == BundleSource::Federation {
                if let Some(before) = running.remove(name) {
                    end(before).await;
                }
                continue;
            }
            let same = |r: &Running| r.bundle == *peer && r.own_refresh == own_refresh;
            if running.get(name).is_some_and(same) {
                continue;
            }
            if let Some(before) = running.remove(name) {
                end(before).await;
            }
            let wake = Arc::new(Notify::new());
            let task = self.start(name, peer, own_refresh, wake.clone());
            let bundle = peer.clone();
            running.insert(
                name.clone(),
                Running {
                    bundle,
                    own_refresh,
                    wake,
                    task,
                },
            );
        }
    }

    /// The bundles of peers that are linked through the federation, as it has verified them.
    fn take_members(&self, part: &ServerPart, verified: &Members) {
        let federated = part
            .peers
            .iter()
            .filter(|(name, peer)| peer.source == BundleSource::Federation && **name != self.own);
        for (name, peer) in federated {
            let context = &self.context;
            context.states.start(name, &peer.source);
            let Some(member) = verified.get(name) else {
                context.bundles.remove(name);
                continue;
            };
            context.states.take(name, &member.bundle);
            context.metrics.bundle_end(name, member.bundle.end());
            context.bundles.put(member.bundle.clone());
        }
    }

    fn start(
        &self,
        name: &TrustDomain,
        peer: &PeerBundle,
        own_refresh: Duration,
        wake: Arc<Notify>,
    ) -> JoinHandle<()> {
        self.context.states.start(name, &peer.source);
        let (context, peer) = (self.context.clone(), (name.clone(), peer.clone()));
        let task = format!("bundle of {name}");
        let tasks = &self.context.tasks;
        // It ends when it is aborted.
        tasks.keep(
            task,
            || false,
            move || {
                let (context, peer, wake) = (context.clone(), peer.clone(), wake.clone());
                async move {
                    let known = match peer.1.source {
                        BundleSource::Identity(_) => None,
                        _ => context.kept(&peer.0).await,
                    };
                    PeerLoop::new(peer, own_refresh, context, known)
                        .run(&wake)
                        .await;
                }
            },
        )
    }

    /// From now on the trust domain is unknown.
    async fn forget(&self, trust_domain: &TrustDomain) {
        self.context.bundles.remove(trust_domain);
        self.context.states.remove(trust_domain);
        self.context.metrics.forget_peer(trust_domain);
        if let Err(error) = self.context.store.forget_peer(trust_domain).await {
            tracing::error!(peer = %trust_domain, %error, "the cached bundle could not be deleted");
        }
        tracing::info!(peer = %trust_domain, "no longer a peer");
    }
}

/// Files may have changed under the paths that the site file names.
fn wake_readers_of_files(running: &BTreeMap<TrustDomain, Running>) {
    let reads_file = |peer: &&Running| match &peer.bundle.source {
        BundleSource::File(_) | BundleSource::HttpsSpiffe { .. } => true,
        BundleSource::HttpsWeb { roots, .. } => roots.is_some(),
        BundleSource::Identity(_) | BundleSource::Federation => false,
    };
    for peer in running.values().filter(reads_file) {
        peer.wake.notify_one();
    }
}

/// Ends a loop and waits until it has ended, so that it publishes nothing afterwards.
async fn end(mut running: Running) {
    running.task.abort();
    let _ = (&mut running.task).await;
}

#[cfg(test)]
mod tests;
