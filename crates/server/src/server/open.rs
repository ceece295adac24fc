//! A server is put together from its state folder and what the site file says.

use std::sync::Arc;

use bytes::Bytes;
use renkei_site::ServerPart;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

use super::{
    EntriesState, Inner, Server, ServerError, ServerSettings,
    rotation::{ca_lifetimes, surely_ended},
};
use crate::{
    SpiffeEndpoint, StoreError,
    api::{self, Api},
    authority::{Authority, Reading},
    bundles::Bundles,
    endpoint::{FederationDocuments, WebEndpoints},
    entries::{Entries, of_file},
    federation::{self, Federator, Members},
    keys::KeyManager,
    nodes::Nodes,
    peers::{self, Peers},
    store::{DataStore, EntrySource, SqliteStore},
};

/// The database, and the keys next to it.
type State = (Arc<dyn DataStore>, Arc<dyn KeyManager>);

impl Server {
    /// Opens the state folder, makes the first CA where there is none, and publishes the own
    /// bundle and the last good bundles of the peers. Nothing is fetched yet.
    ///
    /// # Errors
    /// When the state folder, the CA or the https_web endpoint cannot be used.
    pub async fn open(settings: ServerSettings) -> Result<Self, ServerError> {
        let part = settings.part.borrow().clone();
        let (store, keys) = settings.open_state(&part).await?;
        let now = (settings.clock)();
        let state = (store.clone(), keys);
        let authority = settings.open_authority(&part, state, now).await?;
        let entries = Arc::new(open_entries(&part, store.clone(), now).await?);
        let nodes = Nodes::open(
            store.clone(),
            part.trust_domain.clone(),
            settings.provider.secure_random,
        );
        let nodes = Arc::new(nodes.await?);
        let bundles = Arc::new(Bundles::new());
        let document = watch::Sender::new(Bytes::new());
        let checkpoint = watch::Sender::new(Bytes::new());
        let record = watch::Sender::new(Bytes::new());
        let federation = FederationDocuments {
            checkpoint: checkpoint.subscribe(),
            record: record.subscribe(),
        };
        let endpoint = settings.spiffe_endpoint(&part, document.subscribe(), federation);
        let web = settings.open_web(&part, document.subscribe()).await?;
        let parts = settings.api_parts(&part, &entries, &nodes, &bundles, &endpoint);
        let api = Api::open(part.api.as_ref(), &settings.state, parts).await?;
        let federator = settings.federation(document.subscribe(), checkpoint, record);
        let federator = Federator::open(&part, federator).await;
        let peers = settings.open_peers(&part, &store, &bundles, federator.members());
        let peers = peers.await?;
        let inner = Inner {
            trust_domain: part.trust_domain.clone(),
            store,
            authority,
            entries,
            nodes,
            api,
            entries_state: watch::Sender::new(EntriesState {
                version: part.version,
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
            part: settings.part,
            metrics: settings.metrics,
            clock: settings.clock,
            system: settings.system,
            tasks: settings.tasks,
        };
        inner.publish();
        inner.record_clock().await;
        Ok(Self(Arc::new(inner)))
    }
}

impl ServerSettings {
    /// Opens the database and the keys; the clock is judged by what is on record there.
    async fn open_state(&self, part: &ServerPart) -> Result<State, StoreError> {
        let sqlite = SqliteStore::open(&self.state, &part.trust_domain).await?;
        let keys = Arc::new(sqlite.keys().clone());
        let store: Arc<dyn DataStore> = Arc::new(sqlite);
        if let Some(system) = &self.system {
            system.begin(store.clock_record().await?.as_ref());
        }
        Ok((store, keys))
    }

    async fn open_authority(
        &self,
        part: &ServerPart,
        state: State,
        now: OffsetDateTime,
    ) -> Result<Authority, ServerError> {
        let time = Reading {
            now,
            ended: surely_ended(self.system.as_ref(), now),
        };
        let name = part.trust_domain.clone();
        let lifetimes = ca_lifetimes(part);
        Ok(Authority::open(state, name, &self.provider, lifetimes, time).await?)
    }

    fn spiffe_endpoint(
        &self,
        part: &ServerPart,
        document: watch::Receiver<Bytes>,
        federation: FederationDocuments,
    ) -> SpiffeEndpoint {
        let (server, provider) = (part.server_id.clone(), self.provider.clone());
        SpiffeEndpoint::new(server, provider, document, federation)
    }

    async fn open_web(
        &self,
        part: &ServerPart,
        document: watch::Receiver<Bytes>,
    ) -> Result<WebEndpoints, ServerError> {
        let (provider, tasks) = (self.provider.clone(), self.tasks.clone());
        let counted = (tasks, self.metrics.refused_clients());
        Ok(WebEndpoints::open(part, provider, document, counted).await?)
    }

    fn api_parts(
        &self,
        part: &ServerPart,
        entries: &Arc<Entries>,
        nodes: &Arc<Nodes>,
        bundles: &Arc<Bundles>,
        endpoint: &SpiffeEndpoint,
    ) -> api::Parts {
        api::Parts {
            trust_domain: part.trust_domain.clone(),
            entries: entries.clone(),
            nodes: nodes.clone(),
            bundles: bundles.clone(),
            endpoint: endpoint.clone(),
            node_parts: self.nodes.clone(),
            provider: self.provider.clone(),
            clock: self.clock.clone(),
        }
    }

    async fn open_peers(
        &self,
        part: &ServerPart,
        store: &Arc<dyn DataStore>,
        bundles: &Arc<Bundles>,
        members: watch::Receiver<Members>,
    ) -> Result<Peers, StoreError> {
        Peers::open(
            part,
            store.clone(),
            self.provider.clone(),
            bundles.clone(),
            members,
            self.metrics.clone(),
            peers::Surroundings {
                clock: self.clock.clone(),
                tasks: self.tasks.clone(),
                state: self.state.clone(),
            },
        )
        .await
    }

    fn federation(
        &self,
        document: watch::Receiver<Bytes>,
        checkpoint: watch::Sender<Bytes>,
        record: watch::Sender<Bytes>,
    ) -> federation::Inputs {
        federation::Inputs {
            state: self.state.clone(),
            provider: self.provider.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            document,
            checkpoint,
            record,
        }
    }
}

async fn open_entries(
    part: &ServerPart,
    store: Arc<dyn DataStore>,
    now: OffsetDateTime,
) -> Result<Entries, StoreError> {
    let entries = Entries::open(store, part.trust_domain.clone()).await?;
    entries.set_svid_lifetime(part.lifetimes.x509_svid);
    let wanted = of_file(&part.entries);
    entries.replace(&EntrySource::FILE, &wanted, now).await?;
    Ok(entries)
}
