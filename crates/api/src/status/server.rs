//! The authority of a trust domain.

use std::{borrow::Cow, net::SocketAddr};

use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::{FederationStatus, NodeFault};

/// What the authority says, or why it cannot say it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ServerReport {
    /// The server works; this is its state.
    Status(Box<ServerStatus>),
    /// The state could not be read.
    Failed {
        /// What the server says instead.
        error: String,
    },
}

/// The state of the authority at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// The own trust domain.
    pub trust_domain: TrustDomain,
    /// `spiffe_sequence` of the own bundle.
    pub bundle_sequence: u64,
    /// `spiffe_refresh_hint` of the own bundle: how often peers should fetch it, in seconds.
    pub bundle_refresh_seconds: u64,
    /// The CAs, the oldest first.
    pub authorities: Vec<AuthorityStatus>,
    /// Who may be issued an identity.
    pub entries: Vec<EntryStatus>,
    /// Issued SVIDs that have not ended.
    pub valid_svids: u64,
    /// The bundles of the peers.
    pub peers: Vec<PeerStatus>,
    /// The federation, where the site file names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub federation: Option<FederationStatus>,
    /// The lasting identity of this site, once `renkei identity` has made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<OwnIdentityStatus>,
    /// The https_web endpoint, where the site file asks for one.
    pub bundle_endpoint: Option<EndpointStatus>,
    /// The nodes of the site file, and the other agents that have joined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeStatus>,
}

/// What this site shows to peers that know its identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnIdentityStatus {
    /// The SHA-256 of its first site root, in hexadecimal digits.
    pub identity: String,
    /// The version of its site root.
    pub root_version: u64,
    /// When that expires. Afterwards peers accept nothing of this site but the next version.
    #[serde(with = "time::serde::rfc3339")]
    pub root_expires: OffsetDateTime,
    /// The sequence of its newest statement.
    pub sequence: Option<u64>,
    /// When that expires; another is made every day.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// Why peers get nothing new, if so.
    pub fault: Option<String>,
}

/// A node as its server knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The name in the site file; the path of the SPIFFE ID for an agent that is not named there.
    pub name: String,
    /// How it proved itself, such as `join_token`; empty when it has not joined.
    pub attestor: String,
    /// When it joined.
    #[serde(with = "time::serde::rfc3339::option")]
    pub attested_at: Option<OffsetDateTime>,
    /// When the SVID that it was issued last expires.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_after: Option<OffsetDateTime>,
    /// Whether it is refused for good.
    pub banned: bool,
    /// Its stream, while it is connected. Agents that are not Renkei's have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<NodeLink>,
}

/// The stream by which a node follows its part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLink {
    /// Where it comes from.
    pub address: SocketAddr,
    /// Since when it is connected.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// The release that it runs, as it says.
    pub release: String,
    /// The newest update that it was sent; each stream counts from 1.
    pub sent: u64,
    /// The newest that it has answered.
    pub taken: u64,
    /// What it could not take of that one.
    pub faults: Vec<NodeFault>,
    /// By how much its clock is ahead of the server's, in seconds; negative when it is behind.
    pub clock_ahead_seconds: i64,
}

/// A CA of the site, past or present.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityStatus {
    /// Its serial number in hexadecimal digits.
    pub id: String,
    /// Where it is in its life.
    pub state: CaState,
    /// When the certificate becomes valid.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// When the certificate expires.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
}

/// Where a CA is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CaState {
    /// Published, so that every peer knows it before it signs.
    Prepared,
    /// The one that signs.
    Active,
    /// Signs no more; trusted until it ends.
    Old,
}

impl CaState {
    /// The word used in the database and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Active => "active",
            Self::Old => "old",
        }
    }

    /// Reads the word that [`Self::as_str`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Prepared, Self::Active, Self::Old]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// A registration entry, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryStatus {
    /// The ID of the entry, which is not a SPIFFE ID.
    #[serde(default)]
    pub entry: String,
    /// Where it comes from: `file`.
    #[serde(default)]
    pub source: String,
    /// The SPIFFE ID that was issued for.
    pub id: SpiffeId,
    /// What it is for.
    pub kind: EntryKind,
    /// What a process must be to get it.
    pub selectors: Vec<String>,
    /// Since when there has been such an entry.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
}

/// What an entry is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A local program, found by its selectors.
    Workload,
    /// A service that the gateway speaks for.
    Service,
    /// This site's own bundle endpoint.
    Server,
    /// A machine of the site.
    Node,
}

impl EntryKind {
    /// The word used in the database and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Service => "service",
            Self::Server => "server",
            Self::Node => "node",
        }
    }

    /// Reads the word that [`Self::as_str`] gives.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Workload, Self::Service, Self::Server, Self::Node]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

/// A peer's bundle and how fetching it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The trust domain of the bundle.
    pub trust_domain: TrustDomain,
    /// `file`, `https_web`, `https_spiffe`, `identity` or `federation`.
    pub profile: Cow<'static, str>,
    /// The file or URL.
    #[serde(default)]
    pub source: String,
    /// `spiffe_sequence` of the bundle in use.
    pub sequence: Option<u64>,
    /// How many X.509 authorities the bundle in use has; none when there is no bundle yet.
    pub authorities: usize,
    /// When the last authority of the bundle in use expires. After that no SVID of the peer can be
    /// verified, unless a newer bundle has come.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub bundle_end: Option<OffsetDateTime>,
    /// The last fetch that brought a good bundle, also before a restart.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_success: Option<OffsetDateTime>,
    /// Why the latest fetch failed, if it did.
    pub last_error: Option<String>,
    /// When the next fetch is due.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub next_fetch: Option<OffsetDateTime>,
    /// What was seen of a peer that is known by its identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PeerIdentityStatus>,
}

/// A peer that is known by its identity.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PeerIdentityStatus {
    /// As the site file has it: 64 hexadecimal digits, maybe with `@VERSION`.
    pub identity: String,
    /// The highest version of its site root that was seen.
    pub root_version: Option<u64>,
    /// The highest sequence of its statements under that version.
    pub sequence: Option<u64>,
    /// When its statement or its site root expires, the first of the two. Its bundle is in use
    /// until then.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// Why it has withdrawn, if it has. Nothing of it is trusted any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
}

impl PeerStatus {
    /// Whether the peer's bundle has come and has no authority.
    pub fn trusts_nothing(&self) -> bool {
        // The bundle of a peer with an identity goes when its statement expires.
        let has_come = self.identity.is_none() && self.last_success.is_some();
        self.authorities == 0 && (has_come || self.sequence.is_some())
    }
}

/// The https_web bundle endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Where it listens, when it does.
    pub listen: Option<SocketAddr>,
    /// Why it does not serve as the site file says.
    pub error: Option<String>,
}
