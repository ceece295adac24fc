//! The address of a Workload API (SPIFFE_Workload_Endpoint 4).

use std::path::PathBuf;

/// Why a text is not the address of a unix socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// A path that depends on the current folder.
    #[error("{0:?} is not an absolute path: write unix:///PATH or /PATH")]
    NotAbsolute(String),
    /// The scheme of the URI is not `unix`.
    #[error("{0:?} is not a unix socket: write unix:///PATH or /PATH")]
    Scheme(String),
    /// The URI names a host, or has a query or a fragment.
    #[error("{0:?} has more than a path: write unix:///PATH or /PATH")]
    MoreThanAPath(String),
}

/// The path of the socket that `unix:///PATH`, `unix:/PATH` or `/PATH` names.
pub fn socket_path(endpoint: &str) -> Result<PathBuf, EndpointError> {
    let Some(rest) = endpoint.strip_prefix("unix:") else {
        return match endpoint {
            path if path.starts_with('/') => Ok(path.into()),
            other if other.contains("://") => Err(EndpointError::Scheme(other.into())),
            other => Err(EndpointError::NotAbsolute(other.into())),
        };
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    match path {
        path if path.contains(['?', '#']) => Err(EndpointError::MoreThanAPath(endpoint.into())),
        path if path.len() > 1 && path.starts_with('/') => Ok(path.into()),
        _ if rest.starts_with("//") => Err(EndpointError::MoreThanAPath(endpoint.into())),
        _ => Err(EndpointError::NotAbsolute(endpoint.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_sockets_are_named_in_three_ways() {
        for text in ["unix:///run/a.sock", "unix:/run/a.sock", "/run/a.sock"] {
            assert_eq!(socket_path(text), Ok("/run/a.sock".into()), "{text}");
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        use EndpointError::{MoreThanAPath, NotAbsolute, Scheme};
        let cases = [
            ("tcp://127.0.0.1:1", Scheme as fn(String) -> EndpointError),
            ("a.sock", NotAbsolute),
            ("", NotAbsolute),
            ("unix:a.sock", NotAbsolute),
            ("unix://host/a.sock", MoreThanAPath),
            ("unix:///a.sock?x", MoreThanAPath),
            ("unix://", MoreThanAPath),
        ];
        for (text, error) in cases {
            assert_eq!(socket_path(text), Err(error(text.into())));
        }
    }
}
