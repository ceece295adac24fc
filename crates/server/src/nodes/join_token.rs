//! Join tokens: a secret that a person carries to the node, good once and for a while.
//!
//! The token of a Renkei node names it; a SPIRE agent is named after its token, as SPIRE does.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use renkei_api::node::JoinSecret;
use renkei_spiffe::{SpiffeId, TrustDomain};
use rustls::crypto::SecureRandom;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{AttestError, Attested, NodeAttestor, node_id};
use crate::store::{DataStore, StoreError, TokenRow, TokenUse};

/// Longer ones are none of ours.
const MAX_TOKEN: usize = 128;
/// The name of the kind.
pub(crate) const JOIN_TOKEN: &str = "join_token";
/// The path of an agent of SPIRE begins so; its token follows.
pub(crate) const TOKEN_PATH: &str = "/spire/agent/join_token/";

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The site file has no such node.
    #[error("the site file has no node `{0}`; check the name under `nodes`")]
    UnknownNode(String),
    /// It would expire before it can be used.
    #[error("the site file has no `server`: nodes need an address to come to")]
    NoServer,
    /// There is no certificate of the server to pin.
    #[error("the server has no certificate yet; try again in a few seconds")]
    NotReady,
    /// A token that was chosen cannot be the name of an agent.
    #[error("a join token has at most {MAX_TOKEN} letters, digits, `.`, `-` and `_`")]
    Form,
    /// No token can be made without random numbers of the system.
    #[error("the system gave no random numbers")]
    Random,
    /// The token could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Attests nodes by join tokens, and makes the tokens.
pub(crate) struct JoinToken {
    store: Arc<dyn DataStore>,
    trust_domain: TrustDomain,
    random: &'static dyn SecureRandom,
}

impl JoinToken {
    pub(super) fn new(
        store: Arc<dyn DataStore>,
        trust_domain: TrustDomain,
        random: &'static dyn SecureRandom,
    ) -> Self {
        Self {
            store,
            trust_domain,
            random,
        }
    }

    /// A secret for one Renkei node, and when it expires.
    pub(crate) async fn for_node(
        &self,
        name: &str,
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<(JoinSecret, OffsetDateTime), TokenError> {
        let secret = JoinSecret::new(self.random_bytes()?);
        let node = Some(name.to_owned());
        let ends_at = self.keep(&secret.payload(), node, life, now).await?;
        Ok((secret, ends_at))
    }

    /// A token for one SPIRE agent, and when it expires: the chosen one, or a new one in the form
    /// that SPIRE gives it.
    pub(crate) async fn for_agent(
        &self,
        chosen: Option<String>,
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<(String, OffsetDateTime), TokenError> {
        let token = match chosen.filter(|token| !token.is_empty()) {
            Some(token) => self.checked(token)?,
            None => uuid(self.random_bytes()?),
        };
        let ends_at = self.keep(&token, None, life, now).await?;
        Ok((token, ends_at))
    }

    /// The agent is named after its token.
    fn checked(&self, token: String) -> Result<String, TokenError> {
        let path = format!("{TOKEN_PATH}{token}");
        let is_id = SpiffeId::with_path(self.trust_domain.clone(), &path).is_ok();
        let is_good = is_id && token.len() <= MAX_TOKEN && !token.contains('/');
        is_good.then_some(token).ok_or(TokenError::Form)
    }

    async fn keep(
        &self,
        token: &str,
        node: Option<String>,
        life: Duration,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, TokenError> {
        let life = time::Duration::try_from(life).unwrap_or(time::Duration::MAX);
        let row = TokenRow {
            hash: hash(token.as_bytes()),
            node,
            ends_at: now.saturating_add(life),
        };
        self.store.keep_token(&row).await?;
        Ok(row.ends_at)
    }

    fn random_bytes<const COUNT: usize>(&self) -> Result<[u8; COUNT], TokenError> {
        let mut bytes = [0; COUNT];
        let filled = self.random.fill(&mut bytes);
        filled.map_err(|_| TokenError::Random)?;
        Ok(bytes)
    }

    fn identity(&self, token: &str, row: &TokenRow) -> Option<SpiffeId> {
        match &row.node {
            Some(name) => node_id(&self.trust_domain, name),
            None => {
                let path = format!("{TOKEN_PATH}{token}");
                SpiffeId::with_path(self.trust_domain.clone(), &path).ok()
            }
        }
    }
}

#[async_trait]
impl NodeAttestor for JoinToken {
    fn kind(&self) -> &'static str {
        JOIN_TOKEN
    }

    async fn attest(&self, payload: &[u8], now: OffsetDateTime) -> Result<Attested, AttestError> {
        let refused = |text: String| Err(AttestError::Refused(text));
        let token = std::str::from_utf8(payload).ok();
        let Some(token) = token.filter(|token| token.len() <= MAX_TOKEN) else {
            return refused("this is not a join token".to_owned());
        };
        let row = match self.store.take_token(&hash(payload), now).await? {
            TokenUse::Taken(row) => row,
            TokenUse::Unknown => {
                return refused("this server does not know the join token".to_owned());
            }
            TokenUse::Used(at) => {
                return refused(format!(
                    "the join token was used at {}, and is good once: make a new one",
                    seconds(at)
                ));
            }
            TokenUse::Expired(at) => {
                return refused(format!(
                    "the join token expired at {}: make a new one",
                    seconds(at)
                ));
            }
        };
        match self.identity(token, &row) {
            Some(id) => Ok(Attested {
                id,
                can_reattest: false,
            }),
            None => refused("the join token names no node".to_owned()),
        }
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

fn seconds(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_else(|_| time.to_string())
}

/// A random UUID (RFC 9562 5.4).
pub(crate) fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = hex::encode(bytes);
    [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)]
        .map(|(from, to)| text.get(from..to).unwrap_or_default())
        .join("-")
}
