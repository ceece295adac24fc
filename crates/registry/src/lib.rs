//! The registry of a federation: an append-only log on an ordinary HTTP server, in the files of
//! C2SP tlog-tiles. Anyone may run it and no site has to trust it: what it can do wrong, each site
//! sees for itself.
//!
//! It takes statements that would count and cosignatures of witnesses, and serves files. A copy of
//! its folder, on any HTTP server or on a stick, is a mirror.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod folder;
mod log;
mod metrics;
mod server;
#[cfg(test)]
mod tests;

use renkei_federation::READ_INTERVAL;
use time::Duration;

/// How long a checkpoint waits for its witnesses before the next one is cut: each of them reads
/// it at least twice in that time, so that a quorum meets at one however fast statements come.
pub const CHECKPOINT_INTERVAL: Duration = Duration::seconds(3 * READ_INTERVAL.whole_seconds());

pub use folder::FolderError;
pub use log::{CosignError, Log, Placed, SubmitError};
pub use metrics::RegistryMetrics;
pub use server::Registry;
