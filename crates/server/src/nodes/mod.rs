//! The nodes of the trust domain: how they join, and which of their SVIDs are good.
//!
//! A node's row is in memory and in the store. So a database that gives no answer keeps new nodes
//! out, and no node that has joined.

mod attestor;
mod join_token;
mod presented_svid;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use renkei_spiffe::{IdError, SpiffeId, TrustDomain};
use rustls::crypto::SecureRandom;
use time::OffsetDateTime;
use tokio::sync::{Mutex, watch};

pub use self::join_token::TokenError;
pub(crate) use self::{
    attestor::{AttestError, Attested, NodeAttestor},
    join_token::{JOIN_TOKEN, JoinToken, TOKEN_PATH, uuid},
    presented_svid::PresentedSvid,
};
use crate::{
    entries::{EntryHolder, NODE},
    store::{AgentRow, DataStore, StoreError},
};

/// A longer text that a node says of itself is cut.
const MAX_RELEASE: usize = 64;

/// Why a node's SVID is not good, though its certificate is valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotActive {
    /// It never joined, or it was removed.
    #[error("{} has not joined this trust domain, or was removed: it must join again", .0.short())]
    NotAttested(SpiffeId),
    /// Another SVID of the same node is in use.
    #[error("this SVID of {} was replaced by a newer one", .0.short())]
    Replaced(SpiffeId),
    /// It is out for good.
    #[error("{} is banned", .0.short())]
    Banned(SpiffeId),
    /// The SVID expired while its connection was open.
    #[error("the SVID of {} has expired", .0.short())]
    Expired(SpiffeId),
}

/// The nodes on record.
pub(crate) struct Nodes {
    trust_domain: TrustDomain,
    store: Arc<dyn DataStore>,
    random: &'static dyn SecureRandom,
    agents: RwLock<BTreeMap<SpiffeId, AgentRow>>,
    /// One change at a time.
    changing: Mutex<()>,
    /// Counts changes of who may do something.
    changes: watch::Sender<u64>,
}

/// Why a node is neither banned nor removed.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The name can be no node's.
    #[error("`{name}` is no name of a node: {reason}; `renkei status` shows the nodes")]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        reason: IdError,
    },
    /// The record failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The ID of a Renkei node, or of another agent by its path, as status names them.
pub(crate) fn id_of(trust_domain: &TrustDomain, name: &str) -> Result<SpiffeId, NodeError> {
    let path = match name.contains('/') {
        true => format!("/{name}"),
        false => format!("{NODE}{name}"),
    };
    SpiffeId::with_path(trust_domain.clone(), &path).map_err(|reason| NodeError::Name {
        name: name.chars().take(MAX_RELEASE).collect(),
        reason,
    })
}

/// The ID of a Renkei node.
fn node_id(trust_domain: &TrustDomain, name: &str) -> Option<SpiffeId> {
    SpiffeId::with_path(trust_domain.clone(), &format!("{NODE}{name}")).ok()
}

/// The name of a Renkei node in the site file; none for an agent of another make.
pub(crate) fn node_name(id: &SpiffeId) -> Option<&str> {
    id.path().strip_prefix(NODE)
}

/// Whether an ID is of an agent, of Renkei or of SPIRE.
pub(crate) fn is_node(id: &SpiffeId) -> bool {
    node_name(id).is_some() || id.path().starts_with("/spire/agent/")
}

/// Which entries a node may ask for.
pub(crate) fn holder(id: &SpiffeId) -> EntryHolder {
    match node_name(id) {
        Some(name) => EntryHolder::Node(name.to_owned()),
        None => EntryHolder::Agent(id.clone()),
    }
}

impl Nodes {
    /// Reads the nodes back.
    pub(crate) async fn open(
        store: Arc<dyn DataStore>,
        trust_domain: TrustDomain,
        random: &'static dyn SecureRandom,
    ) -> Result<Self, StoreError> {
        let agents = store.agents().await?;
        let agents = agents.into_iter().map(|row| (row.id.clone(), row));
        Ok(Self {
            agents: RwLock::new(agents.collect()),
            trust_domain,
            store,
            random,
            changing: Mutex::default(),
            changes: watch::Sender::new(0),
        })
    }

    /// What attests by join tokens.
    pub(crate) fn join_token(&self) -> JoinToken {
        JoinToken::new(self.store.clone(), self.trust_domain.clone(), self.random)
    }

    /// All nodes on record, by their ID.
    pub(crate) fn all(&self) -> Vec<AgentRow> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents.values().cloned().collect()
    }

    pub(crate) fn get(&self, id: &SpiffeId) -> Option<AgentRow> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents.get(id).cloned()
    }

    /// Those that are out for good.
    pub(crate) fn banned(&self) -> BTreeSet<SpiffeId> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        let banned = agents.values().filter(|row| row.banned);
        banned.map(|row| row.id.clone()).collect()
    }

    /// Rises when a node joins, or loses its right.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Whether an SVID is the one that its node has, or the one that it was issued last.
    pub(crate) fn check(&self, svid: &PresentedSvid, now: OffsetDateTime) -> Result<(), NotActive> {
        let id = || svid.id.clone();
        let row = self.get(&svid.id);
        let row = row.ok_or_else(|| NotActive::NotAttested(id()))?;
        if row.banned {
            return Err(NotActive::Banned(id()));
        }
        if svid.not_after <= now {
            return Err(NotActive::Expired(id()));
        }
        if row.serial != svid.serial && row.next_serial.as_ref() != Some(&svid.serial) {
            return Err(NotActive::Replaced(id()));
        }
        Ok(())
    }

    /// A node has used this SVID: the one before is not good any more.
    pub(crate) async fn used(&self, svid: &PresentedSvid) {
        let is_next = |row: &AgentRow| row.next_serial.as_ref() == Some(&svid.serial);
        if !self.get(&svid.id).is_some_and(|row| is_next(&row)) {
            return;
        }
        let _turn = self.changing.lock().await;
        let Some(row) = self.get(&svid.id).filter(is_next) else {
            return;
        };
        let row = AgentRow {
            serial: svid.serial.clone(),
            next_serial: None,
            ..row
        };
        self.put(row.clone());
        // Until it is stored, both are good after a restart.
        if let Err(error) = self.store.keep_agent(&row).await {
            tracing::warn!(node = %row.id, %error, "the SVID that a node uses is not on record");
        }
    }

    /// A node has joined: what it had before is not good any more.
    ///
    /// # Errors
    /// The record failed; the node has not joined then.
    pub(crate) async fn joined(&self, row: AgentRow) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        self.store.keep_agent(&row).await?;
        self.put(row);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// A node was issued its next SVID.
    ///
    /// # Errors
    /// The record failed; the SVID must not be handed out then.
    pub(crate) async fn renewed(
        &self,
        id: &SpiffeId,
        serial: &str,
        not_after: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        let Some(row) = self.get(id) else {
            return Ok(());
        };
        let row = AgentRow {
            next_serial: Some(serial.to_owned()),
            not_after,
            ..row
        };
        self.store.keep_agent(&row).await?;
        self.put(row);
        Ok(())
    }

    /// The release that a node says it runs.
    pub(crate) async fn says_release(&self, id: &SpiffeId, release: &str) {
        let release: String = release
            .chars()
            .filter(|one| !one.is_control())
            .take(MAX_RELEASE)
            .collect();
        let _turn = self.changing.lock().await;
        let Some(row) = self.get(id).filter(|row| row.release != release) else {
            return;
        };
        let row = AgentRow { release, ..row };
        self.put(row.clone());
        if let Err(error) = self.store.keep_agent(&row).await {
            tracing::warn!(node = %row.id, %error, "the release of a node is not on record");
        }
    }

    /// Refuses a node from now on; a node that never joined cannot join either.
    pub(crate) async fn ban(&self, id: &SpiffeId, now: OffsetDateTime) -> Result<(), StoreError> {
        let _turn = self.changing.lock().await;
        let row = self.get(id).unwrap_or_else(|| AgentRow {
            id: id.clone(),
            attestor: String::new(),
            serial: String::new(),
            next_serial: None,
            not_after: now,
            attested_at: now,
            banned: true,
            release: String::new(),
        });
        let row = AgentRow {
            banned: true,
            ..row
        };
        self.store.keep_agent(&row).await?;
        self.put(row);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(())
    }

    /// Forgets a node, banned or not: it must join again. `false` when there is none.
    pub(crate) async fn remove(&self, id: &SpiffeId) -> Result<bool, StoreError> {
        let _turn = self.changing.lock().await;
        self.store.remove_agent(id).await?;
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        let known = agents.remove(id).is_some();
        drop(agents);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(known)
    }

    fn put(&self, row: AgentRow) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        agents.insert(row.id.clone(), row);
    }
}
