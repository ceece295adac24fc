//! A node's connection to the server of its site, over the network: how it joins ([`join()`]), and
//! how it follows what the server wants of it afterwards ([`ServerLink`]).
//!
//! The contracts are SPIRE's server API (attestation, renewal, certificates) and the stream
//! `renkei.node.v1` (configuration). A SPIRE server has no such stream: it is asked for entries and
//! bundles every few seconds. The server is known by its SVID, `spiffe://TD/spire/server`.
//! The node's own SVID and its key stay in this process and are written nowhere. While the server
//! is away, everything that it has said last stays in force.

mod apply;
mod attest;
mod bundle_reader;
mod connection;
mod error;
mod follow;
mod follower;
mod issuer;
mod join;
mod link;
mod pin;
mod poll;
mod refusal;
mod update;

use std::time::Duration;

pub use bundle_reader::BundleReaders;
pub use error::{ConnectError, JoinError, LinkError};
pub use follow::{ProxyUpdate, Revision};
pub use join::{JoinToken, JoinTokenError, Joined, ServerKind, join, join_spire};
pub use link::{LinkInputs, ServerLink};

/// How long TCP and TLS to the server may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long the server may take for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
