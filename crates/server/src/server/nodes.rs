//! What people do with nodes: tokens to join with, and who is out.

use std::{collections::BTreeSet, time::Duration};

use renkei_api::node::NodeToken;
use renkei_spiffe::SpiffeId;
use time::OffsetDateTime;
use tokio::sync::watch;

use super::Server;
use crate::{NodeError, TokenError, nodes::id_of};

impl Server {
    /// A token with which the node of that name may join once, and when it expires.
    ///
    /// # Errors
    /// There is no such node, nowhere to come to, or no place for the token.
    pub async fn node_token(
        &self,
        name: &str,
        life: Duration,
    ) -> Result<(NodeToken, OffsetDateTime), TokenError> {
        let inner = &self.0;
        let api = &inner.api;
        let settings = api.port().ok_or(TokenError::NoServer)?;
        if !api.knows(name) {
            return Err(TokenError::UnknownNode(name.to_owned()));
        }
        let ca = api.pin().ok_or(TokenError::NotReady)?;
        let now = (inner.clock)();
        let (secret, ends_at) = inner.nodes.join_token().for_node(name, life, now).await?;
        let token = NodeToken {
            server: settings.advertise.clone(),
            ca,
            trust_domain: inner.trust_domain.clone(),
            secret,
        };
        Ok((token, ends_at))
    }

    /// A join token for one SPIRE agent, and when it expires.
    ///
    /// # Errors
    /// There is nowhere to come to, or no place for the token.
    pub async fn agent_token(
        &self,
        life: Duration,
    ) -> Result<(String, OffsetDateTime), TokenError> {
        let inner = &self.0;
        inner.api.port().ok_or(TokenError::NoServer)?;
        let now = (inner.clock)();
        inner.nodes.join_token().for_agent(None, life, now).await
    }

    /// The nodes that are banned. Gateways take no links of them.
    pub fn banned_nodes(&self) -> BTreeSet<SpiffeId> {
        self.0.nodes.banned()
    }

    /// Rises when a node joins, or loses its right.
    pub fn node_changes(&self) -> watch::Receiver<u64> {
        self.0.nodes.changes()
    }

    /// Refuses a node for good, or an agent by the path of its ID. Its streams end.
    ///
    /// # Errors
    /// The name is none, or the record failed; nothing has changed then.
    pub async fn ban_node(&self, name: &str) -> Result<(), NodeError> {
        let id = id_of(&self.0.trust_domain, name)?;
        Ok(self.0.nodes.ban(&id, (self.0.clock)()).await?)
    }

    /// Forgets a node, banned or not: it must join again. `false` when it had not joined.
    ///
    /// # Errors
    /// The name is none, or the record failed; nothing has changed then.
    pub async fn remove_node(&self, name: &str) -> Result<bool, NodeError> {
        let id = id_of(&self.0.trust_domain, name)?;
        Ok(self.0.nodes.remove(&id).await?)
    }
}
