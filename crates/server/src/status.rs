//! What `renkei status` shows of the authority.

use std::net::SocketAddr;

use renkei_spiffe::{SpiffeId, TrustDomain};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{entries::EntryKind, federation::FederationStatus, peers::PeerStatus, store::CaState};

/// The state of the server at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ServerStatus {
    /// The own trust domain.
    pub trust_domain: TrustDomain,
    /// `spiffe_sequence` of the own bundle.
    pub bundle_sequence: u64,
    /// How often peers are told to ask for it, in seconds.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub federation: Option<FederationStatus>,
    /// The https_web endpoint, where the site file asks for one.
    pub bundle_endpoint: Option<EndpointStatus>,
}

/// A CA certificate.
#[derive(Debug, Clone, Serialize)]
pub struct AuthorityStatus {
    /// Its serial number in hexadecimal digits.
    pub id: String,
    /// Where it stands in its life.
    pub state: CaState,
    /// Start of validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_before: OffsetDateTime,
    /// End of validity.
    #[serde(with = "time::serde::rfc3339")]
    pub not_after: OffsetDateTime,
}

/// A registration entry.
#[derive(Debug, Clone, Serialize)]
pub struct EntryStatus {
    /// The identity.
    pub id: SpiffeId,
    /// What it stands for.
    pub kind: EntryKind,
    /// What a process must be to get it.
    pub selectors: Vec<String>,
    /// Since when it has been in the site file.
    #[serde(with = "time::serde::rfc3339::option")]
    pub since: Option<OffsetDateTime>,
}

/// The https_web bundle endpoint.
#[derive(Debug, Clone, Serialize)]
pub struct EndpointStatus {
    /// Where it listens, when it does.
    pub listen: Option<SocketAddr>,
    /// Why it does not serve as the site file says.
    pub error: Option<String>,
}
