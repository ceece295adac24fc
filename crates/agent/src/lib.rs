//! The agent of a node: it attests workloads, keeps their identities fresh, and serves them the
//! SPIFFE Workload API on a unix socket.
//!
//! It never signs anything: certificates come from a
//! [`CertificateIssuer`](renkei_api::issue::CertificateIssuer), keys are made here and leave this
//! process only towards the workload they belong to.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod agent;
mod certificate;
pub mod client;
pub mod keeper;
mod metrics;
pub use renkei_runtime::process;
pub mod server_client;
pub mod workload_api;

pub use agent::Agent;
pub use metrics::{AgentMetrics, Denial, SvidEnds};

#[cfg(test)]
mod testing;
