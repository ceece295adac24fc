//! The control protocol: what the command line asks of a running site, and the answers.
//!
//! It is JSON over HTTP/1.1 on a unix socket that only the site's user can open; the frame is in
//! `renkei-runtime`. Both ends use these types. Fields may be added: a reader ignores those that
//! it does not know, and takes a default for those that an older site does not send.

use std::fmt;

use http::Method;
use renkei_site::Changes;
use renkei_spiffe::{IdError, TrustDomain};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// A question or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The answer is a [`SiteStatus`](crate::status::SiteStatus).
    Status,
    /// Read the site file again and apply it. The answer is an [`Applied`].
    Apply,
    /// The bundle of a peer, or the site's own. The answer is a [`BundleDocument`].
    Bundle(Option<TrustDomain>),
    /// A token with which a node joins. The answer is an [`IssuedToken`].
    NodeToken {
        /// Its name in the site file.
        node: String,
        /// How long the token is good.
        seconds: u64,
    },
    /// A join token for an agent of SPIRE. The answer is an [`IssuedToken`].
    AgentToken {
        /// How long the token is good.
        seconds: u64,
    },
    /// Refuse a node for good. The answer is a [`NodeAnswer`].
    BanNode(String),
    /// Forget a node. The answer is a [`NodeAnswer`].
    RemoveNode(String),
}

/// Why a request is none of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The path with this method has no meaning.
    #[error("{0} {1} is not a command")]
    Unknown(Method, String),
    /// The name after `/bundles/` is no trust domain.
    #[error("{name}: {error}")]
    TrustDomain {
        /// The name as sent.
        name: String,
        /// What is wrong with it.
        error: IdError,
    },
}

impl Request {
    /// The method that carries this request.
    pub fn method(&self) -> Method {
        match self {
            Self::Status | Self::Bundle(_) => Method::GET,
            Self::Apply
            | Self::NodeToken { .. }
            | Self::AgentToken { .. }
            | Self::BanNode(_)
            | Self::RemoveNode(_) => Method::POST,
        }
    }

    /// The path that carries this request.
    pub fn path(&self) -> String {
        match self {
            Self::Status => "/status".to_owned(),
            Self::Apply => "/apply".to_owned(),
            Self::Bundle(None) => "/bundles".to_owned(),
            Self::Bundle(Some(trust_domain)) => format!("/bundles/{trust_domain}"),
            Self::NodeToken { node, seconds } => format!("/tokens/nodes/{seconds}/{node}"),
            Self::AgentToken { seconds } => format!("/tokens/agents/{seconds}"),
            Self::BanNode(name) => format!("/nodes/ban/{name}"),
            Self::RemoveNode(name) => format!("/nodes/remove/{name}"),
        }
    }

    /// Reads method and path as they came.
    pub fn parse(method: &Method, path: &str) -> Result<Self, RequestError> {
        match (method, path) {
            (&Method::GET, "/status") => Ok(Self::Status),
            (&Method::POST, "/apply") => Ok(Self::Apply),
            (&Method::GET, "/bundles" | "/bundles/") => Ok(Self::Bundle(None)),
            (&Method::GET, path) if path.starts_with("/bundles/") => {
                let name = path.trim_start_matches("/bundles/");
                TrustDomain::parse(name)
                    .map(|trust_domain| Self::Bundle(Some(trust_domain)))
                    .map_err(|error| RequestError::TrustDomain {
                        name: name.to_owned(),
                        error,
                    })
            }
            (&Method::POST, path) => Self::of_nodes(path)
                .ok_or_else(|| RequestError::Unknown(method.clone(), path.to_owned())),
            _ => Err(RequestError::Unknown(method.clone(), path.to_owned())),
        }
    }

    fn of_nodes(path: &str) -> Option<Self> {
        let named = |name: &str| (!name.is_empty()).then(|| name.to_owned());
        if let Some(rest) = path.strip_prefix("/tokens/nodes/") {
            let (seconds, node) = rest.split_once('/')?;
            return Some(Self::NodeToken {
                node: named(node)?,
                seconds: seconds.parse().ok()?,
            });
        }
        if let Some(seconds) = path.strip_prefix("/tokens/agents/") {
            let seconds = seconds.parse().ok()?;
            return Some(Self::AgentToken { seconds });
        }
        if let Some(name) = path.strip_prefix("/nodes/ban/") {
            return named(name).map(Self::BanNode);
        }
        let name = path.strip_prefix("/nodes/remove/")?;
        named(name).map(Self::RemoveNode)
    }
}

/// A token, as a person carries it to a node. Not shown by `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedToken {
    /// The token as one line, for `renkei node join`.
    pub token: String,
    /// Until when it can be used, once.
    #[serde(with = "time::serde::rfc3339")]
    pub expires_at: OffsetDateTime,
}

impl fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expires_at = &self.expires_at;
        write!(f, "IssuedToken {{ expires_at: {expires_at}, .. }}")
    }
}

/// What became of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeAnswer {
    /// Whether there was such a node.
    pub was_known: bool,
}

/// What reading the site file again has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The changes as data, for programs.
    pub changes: Changes,
    /// The same for people; empty when nothing has changed.
    pub text: String,
    /// What is not in force yet, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl From<Changes> for Applied {
    fn from(changes: Changes) -> Self {
        let text = changes.to_string();
        Self {
            changes,
            text,
            warnings: Vec::new(),
        }
    }
}

/// A trust bundle, as `renkei bundle show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleDocument {
    /// The bundle document as the standard has it (SPIFFE_Trust_Domain_and_Bundle 4).
    pub document: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_back_from_its_method_and_path() {
        let peer = TrustDomain::parse("osaka.example").unwrap();
        for request in [
            Request::Status,
            Request::Apply,
            Request::Bundle(None),
            Request::Bundle(Some(peer)),
            Request::NodeToken {
                node: "store".to_owned(),
                seconds: 600,
            },
            Request::AgentToken { seconds: 1 },
            Request::BanNode("spire/agent/join_token/7f".to_owned()),
            Request::RemoveNode("store".to_owned()),
        ] {
            let parsed = Request::parse(&request.method(), &request.path());
            assert_eq!(parsed, Ok(request));
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let unknown = Request::parse(&Method::POST, "/status").unwrap_err();
        assert_eq!(unknown.to_string(), "POST /status is not a command");
        let unknown = Request::parse(&Method::GET, "/bundlesx").unwrap_err();
        assert!(matches!(unknown, RequestError::Unknown(..)));
        for path in [
            "/tokens/nodes/x/store",
            "/tokens/agents/",
            "/nodes/ban/",
            "/nodes",
        ] {
            let unknown = Request::parse(&Method::POST, path).unwrap_err();
            assert!(matches!(unknown, RequestError::Unknown(..)), "{path}");
        }
        let bad = Request::parse(&Method::GET, "/bundles/No_Host!").unwrap_err();
        assert!(matches!(bad, RequestError::TrustDomain { .. }), "{bad}");
    }
}
