//! What every gRPC service on a unix socket needs, whatever it offers: a socket file that a live
//! process keeps and a dead one does not, the calling process by the kernel's word, limits for
//! each user and for all, tolerance for clients of gRPC C-core, and an end in time.
//!
//! It knows no service and decides about no caller.

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

mod admission;
mod admitted_stream;
pub mod compat;
mod connection;
mod limits;
mod server;

pub use admitted_stream::{AdmittedStream, Closing};
pub use connection::{ConnectionMetrics, Peer};
pub use limits::GrpcLimits;
pub use server::{OpenServer, UnixServer};
