//! What a request is about, if that is beyond doubt.

use hyper::{Method, Request, Version, header::HOST};
use renkei_access::{HttpPath, HttpPathError};

/// Why a request is answered with 400.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRequest {
    /// Its path could be misread.
    #[error("{0}")]
    Path(#[from] HttpPathError),
    /// RFC 9112 3.2.
    #[error("a request names one host")]
    Host,
}

/// The path of a request in origin form, or the `*` of `OPTIONS *`. The other forms are for
/// proxies that a client knows of.
pub(super) fn path_of<B>(request: &Request<B>) -> Result<HttpPath, BadRequest> {
    let uri = request.uri();
    if uri.scheme().is_some() || uri.authority().is_some() || request.method() == Method::CONNECT {
        return Err(HttpPathError::NotAPath.into());
    }
    if uri.path() == "*" && request.method() != Method::OPTIONS {
        return Err(HttpPathError::NotAPath.into());
    }
    let hosts = request.headers().get_all(HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() >= Version::HTTP_11) {
        return Err(BadRequest::Host);
    }
    Ok(HttpPath::parse(uri.path())?)
}
