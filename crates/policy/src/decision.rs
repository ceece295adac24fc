//! What is asked and what is answered.

use std::net::IpAddr;

use renkei_spiffe::SpiffeId;
use serde::Serialize;

/// One caller that asks to connect to one service.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The caller, as its certificate proved.
    pub peer: &'a SpiffeId,
    /// The service it asks for.
    pub service: &'a SpiffeId,
    /// The address the connection came from, where it is known.
    pub source: Option<IpAddr>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether the caller may use the service.
    pub allowed: bool,
    /// The rule that decided: `allow osaka.example/collector`, `policy broker.rego` or
    /// `default deny`.
    pub rule: String,
    /// One sentence for people.
    pub reason: String,
}
