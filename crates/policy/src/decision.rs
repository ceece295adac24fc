//! What is asked and what is answered.

use std::{fmt, net::IpAddr};

use renkei_access::{HttpHost, RequestPath};
use renkei_spiffe::SpiffeId;
use serde::Serialize;

/// How much of a path is shown.
const MAX_SHOWN: usize = 200;

/// What a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// A connection is opened; of its bytes nothing is known.
    Connect,
    /// A request of HTTP on a connection that was allowed.
    Http {
        /// The method, as it is spelled.
        method: &'a str,
        /// The host that it is for.
        host: &'a HttpHost,
        /// The path, without the query.
        path: &'a RequestPath,
    },
}

impl fmt::Display for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Http { method, path, .. } => {
                let path = path.to_string();
                // ASCII; long ones are of no use to people.
                let shown = path.get(..MAX_SHOWN).unwrap_or(&path);
                let rest = if shown.len() < path.len() { "…" } else { "" };
                write!(f, "{method} {shown}{rest}")
            }
        }
    }
}

/// One caller that asks something of one service.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The caller, as its certificate proved.
    pub peer: &'a SpiffeId,
    /// The service it asks for.
    pub service: &'a SpiffeId,
    /// What the peer asks for.
    pub operation: Operation<'a>,
    /// The address the connection came from, where it is known.
    pub source: Option<IpAddr>,
}

/// The kind of rule that decided. Unlike the reason, it shows nothing of what the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// The caller is in `allow` of the service.
    AllowList,
    /// The service's Rego policy.
    Policy,
    /// The rules by HTTP method, host and path.
    Methods,
    /// A rule reads the path, and servers could read this one in different ways. The reason says
    /// how, and nothing of the rules.
    Path,
    /// No rule matches: denied.
    Default,
}

/// What was decided, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether the caller may use the service.
    pub allowed: bool,
    /// The rule that decided: `allow osaka.example/collector`, `policy broker.rego`,
    /// `methods GET /v1/*`, `methods` or `default deny`.
    pub rule: String,
    /// The kind of that rule.
    pub kind: RuleKind,
    /// One sentence for people.
    pub reason: String,
}
