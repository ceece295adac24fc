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
//! takes identities from whoever fills the watch channel, and the desired state from
//! [`Proxy::apply`].
//!
//! What a peer learns of a refusal is a TLS alert. The reason is in this side's log, counters and
//! [`Proxy::status`].

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod connect;
mod credentials;
mod decision;
mod flows;
mod hub;
mod inbound;
mod kafka;
mod limits;
mod listener;
mod listeners;
pub mod local_caller;
mod memory;
mod metrics;
mod outbound;
mod plain;
mod policies;
mod proxy;
mod refusals;
pub mod relay;
mod revocation;
mod shared;
mod status;
mod sweep;
mod tcp_info;
mod trunk;
mod wan;

pub use decision::TARGET as DECISION_TARGET;
pub use flows::{Flow, Flows};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use inbound::fuzzing;
pub use limits::Limits;
pub use listener::ListenFault;
pub use policies::{Policies, PolicyFault, compile as compile_policies};
pub use proxy::{Applied, ApplyError, Proxy, Setup};
pub use refusals::Refusals;
pub use shared::{Desired, Elsewhere};
