//! The control protocol: what the command line asks of a running site, and the answers.
//!
//! It is JSON over HTTP/1.1 on a unix socket that only the site's user can open; the frame is in
//! `renkei-runtime`. Both ends use these types. Fields may be added: a reader ignores those that
//! it does not know, and takes a default for those that an older site does not send.

use http::Method;
use renkei_site::Changes;
use renkei_spiffe::{IdError, TrustDomain};
use serde::{Deserialize, Serialize};

/// A question or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The answer is a [`SiteStatus`](crate::status::SiteStatus).
    Status,
    /// Read the site file again and apply it. The answer is an [`Applied`].
    Apply,
    /// The bundle of a peer, or the site's own. The answer is a [`BundleDocument`].
    Bundle(Option<TrustDomain>),
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
            Self::Apply => Method::POST,
        }
    }

    /// The path that carries this request.
    pub fn path(&self) -> String {
        match self {
            Self::Status => "/status".to_owned(),
            Self::Apply => "/apply".to_owned(),
            Self::Bundle(None) => "/bundles".to_owned(),
            Self::Bundle(Some(trust_domain)) => format!("/bundles/{trust_domain}"),
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
            _ => Err(RequestError::Unknown(method.clone(), path.to_owned())),
        }
    }
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
        let bad = Request::parse(&Method::GET, "/bundles/No_Host!").unwrap_err();
        assert!(matches!(bad, RequestError::TrustDomain { .. }), "{bad}");
    }
}
