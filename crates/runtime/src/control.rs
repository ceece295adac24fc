//! Commands to a running process: HTTP/1 with JSON over a unix socket.
//!
//! The socket has mode 0600 and lies in a folder that only its user may change, so a process that can
//! open it may command the process. `renkei status`, `apply` and `explain` are its clients.

mod client;
mod server;

pub use client::{CallError, Client};
pub use server::{BindError, ControlError, Router, Server};

use serde::{Deserialize, Serialize};

/// Bytes of a request's body.
pub const MAX_REQUEST_BYTES: usize = 1024 * 1024;
/// Bytes of an answer's body.
pub const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// The body of an answer that is not a success.
#[derive(Debug, Serialize, Deserialize)]
struct ErrorBody {
    error: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    details: serde_json::Value,
}

#[cfg(test)]
mod tests;
