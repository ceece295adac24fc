//! Contracts between processes, and nothing but the code generated from them.
//!
//! Roles never depend on one another; where they meet outside one process, they meet here.

/// The SPIFFE Workload API (SPIFFE_Workload_API). Its proto has no package.
#[allow(
    clippy::all,
    missing_docs,
    reason = "generated from proto/workload.proto"
)]
pub mod workload {
    tonic::include_proto!("_");
}
