//! What a server sends to a node.

mod token;

use std::{fmt, time::Duration};

use renkei_site::Selector;
use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

pub use token::{CaPin, JoinSecret, NodeToken, NodeTokenError};

/// The number of bytes that the ID of an entry has at most. The ID of an entry of the site file is
/// `file.`, a kind, and a name of up to 255 bytes.
const MAX_ENTRY_ID: usize = 320;

/// The ID of a registration entry: letters, digits, `.`, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EntryId(String);

/// Why a text is not the ID of an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the ID of an entry: at most 320 letters, digits, `.`, `-` and `_`")]
pub struct EntryIdError(String);

impl EntryId {
    /// Takes a text as an ID.
    pub fn parse(text: impl Into<String>) -> Result<Self, EntryIdError> {
        let text = text.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let fits = !text.is_empty() && text.len() <= MAX_ENTRY_ID;
        match fits && text.bytes().all(allowed) {
            true => Ok(Self(text)),
            false => Err(EntryIdError(text.chars().take(MAX_ENTRY_ID).collect())),
        }
    }

    /// The ID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for EntryId {
    type Error = EntryIdError;

    fn try_from(text: String) -> Result<Self, EntryIdError> {
        Self::parse(text)
    }
}

impl From<EntryId> for String {
    fn from(id: EntryId) -> Self {
        id.0
    }
}

/// An entry as an agent sees it: an identity that it may ask certificates for, and the processes
/// that get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What a request for a certificate names.
    pub id: EntryId,
    /// Rises with each change of the entry.
    pub revision: u64,
    /// The SPIFFE ID that is issued for it.
    pub spiffe_id: SpiffeId,
    /// A name by which a workload distinguishes its identities (SPIFFE_Workload_API 5.2.1).
    pub hint: String,
    /// Comes first in the answers to a process that has several identities.
    #[serde(default)]
    pub is_default: bool,
    /// What a process must be; all must match. An entry without selectors is for the node's
    /// proxy alone, and no process gets it.
    pub selectors: Vec<Selector>,
}

/// What one node's agent holds and serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPart {
    /// Rises with each change.
    pub version: u64,
    /// The trust domain that the node belongs to.
    pub trust_domain: TrustDomain,
    /// The lifetime of an SVID that is issued now. When this changes, the agent renews all of its
    /// SVIDs at once.
    pub svid_lifetime: Duration,
    /// The entries of this node, ordered by ID.
    pub entries: Vec<Entry>,
}

impl Entry {
    /// The name in the site file, or the whole ID of an entry that is not the file's.
    pub fn name(&self) -> &str {
        let id = self.id.as_str();
        let of_file = id
            .strip_prefix("file.")
            .and_then(|rest| rest.split_once('.'));
        of_file.map_or(id, |(_, name)| name)
    }
}

impl AgentPart {
    /// The entries that processes may get.
    pub fn workloads(&self) -> impl Iterator<Item = &Entry> {
        let entries = self.entries.iter();
        entries.filter(|entry| !entry.selectors.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_an_entry_has_plain_characters() {
        for good in ["file.workload.collector", "a", "4C0c-91_x"] {
            assert_eq!(EntryId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a/b", "a b", "é", "a\n", &"x".repeat(321)] {
            EntryId::parse(bad).unwrap_err();
        }
        serde_json::from_str::<EntryId>("\"a/b\"").unwrap_err();
    }

    #[test]
    fn a_part_comes_back_from_its_text() {
        let part = AgentPart {
            version: 7,
            trust_domain: TrustDomain::parse("osaka.example").unwrap(),
            svid_lifetime: Duration::from_hours(1),
            entries: vec![Entry {
                id: EntryId::parse("file.workload.collector").unwrap(),
                revision: 2,
                spiffe_id: SpiffeId::parse("spiffe://osaka.example/collector").unwrap(),
                hint: "collector".to_owned(),
                is_default: true,
                selectors: vec![Selector::parse("unix:uid:1000").unwrap()],
            }],
        };
        let text = serde_json::to_string(&part).unwrap();
        assert_eq!(serde_json::from_str::<AgentPart>(&text).unwrap(), part);
        let unknown = text.replace("unix:uid:1000", "moon:phase:full");
        serde_json::from_str::<AgentPart>(&unknown).unwrap_err();
    }
}
