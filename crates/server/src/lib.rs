//! The authority of a trust domain: its CA and the state it keeps, the registration entries that
//! say what may be issued, the port that nodes come to, the bundle endpoints that publish its
//! bundle, and the bundles of its peers.
//!
//! Private keys stay in files that only the owner may read; they are never logged, never in the
//! database, and never leave this crate. Nothing here is in the way of traffic: when a peer,
//! the disk or this whole role is gone, what has been issued and fetched stays valid.
//!
//! Standards: X509-SVID, SPIFFE_Trust_Domain_and_Bundle, SPIFFE_Federation.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod api;
mod authority;
mod bundles;
mod endpoint;
mod entries;
pub mod federation;
mod fetch;
#[cfg(test)]
mod fixtures;
mod keys;
mod metrics;
mod nodes;
mod peers;
mod server;
mod store;
mod time_source;
mod web_client;

pub use api::{ListenError, NodeParts};
pub use authority::{AuthorityError, RequestError, SignError};
pub use endpoint::{EndpointError, HandshakeError, PemError, SpiffeEndpoint};
pub use fetch::FetchError;
pub use metrics::ServerMetrics;
pub use nodes::{NodeError, TokenError};
pub use peers::{BundleRefusal, PeerFetchError};
pub use server::{EntriesState, Server, ServerError, ServerSettings, stored_bundle_document};
pub use store::{KeyFileError, StoreError};
pub use time_source::Clock;
