//! Contracts between processes and between roles: what they say to each other, and nothing else.
//!
//! Roles never depend on one another. Where they meet, they meet here: in code generated from
//! protobuf ([`workload`]), in what a server gives a node ([`node`], [`issue`]), in the control
//! protocol between the command line and a running site ([`control`]), and in what the roles
//! report of themselves ([`status`]).

pub mod control;
pub mod issue;
pub mod node;
pub mod status;

/// The SPIFFE Workload API (SPIFFE_Workload_API). Its proto has no package.
#[allow(
    clippy::all,
    missing_docs,
    clippy::allow_attributes_without_reason,
    unused_qualifications,
    reason = "generated from proto/workload.proto"
)]
pub mod workload {
    tonic::include_proto!("_");
}
