//! The data plane of a site: carries the connections of local workloads to services of other
//! sites, and those of other sites to local services.
//!
//! ```text
//!  application ──▶ outbound listener          gateway ──▶ backend
//!                  │ whose process is it?     │ whose certificate is it?
//!                  │ the caller's SVID        │ what does the service's policy say?
//!                  └────────── TLS 1.3, both sides verified ──────────┘
//! ```
//!
//! One process holds any number of identities: each connection uses the caller's own at one end
//! and the service's own at the other. The proxy never speaks as itself and issues nothing; it
//! takes identities from a watch channel, and the desired state from
//! [`Proxy::apply`].
//!
//! What a peer learns of a refusal is a TLS alert. The reason is in this side's log, counters and
//! [`Proxy::status`].

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod admission;
mod authorization;
mod bandwidth;
mod config;
mod context;
mod gateway;
mod hub;
mod identity;
mod inbound;
mod listeners;
pub mod local_caller;
mod metrics;
mod outbound;
mod policies;
mod proxy;
mod readiness;
mod record;
pub mod relay;
mod sessions;
mod sockets;
mod status;
mod sweep;
#[cfg(test)]
mod testing;
mod tls;
mod trunk;
mod wan;

pub use authorization::TARGET as DECISION_TARGET;
pub use config::{Desired, ProxyLimits};
pub use context::{Flow, Flows, Refusals};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use gateway::fuzzing;
pub use gateway::{DefaultHandler, Untouched};
pub use policies::{Policies, PolicyFault, compile as compile_policies};
pub use proxy::{Applied, ApplyError, Proxy, Setup};
pub use sockets::ListenFault;
