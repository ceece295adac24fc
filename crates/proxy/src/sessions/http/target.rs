//! What a request is about, if that is beyond doubt.

use hyper::{
    Method, Request, Version,
    header::{HOST, HeaderValue},
};
use renkei_access::{HttpHost, HttpHostError, HttpPathError, RequestPath};

/// Why a request is answered with 400, whatever the rules say.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadRequest {
    /// Its target is in no form that is passed on.
    #[error("{0}")]
    Target(HttpPathError),
    /// RFC 9112 3.2.
    #[error("a request names one host")]
    Hosts,
    /// RFC 9112 3.2.
    #[error("{0}")]
    Host(#[from] HttpHostError),
}

/// What a request is about.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) host: HttpHost,
    pub(super) path: RequestPath,
}

/// The target of a request in origin form, or the `*` of `OPTIONS *`. The other forms are for
/// proxies that a client knows of.
pub(super) fn target_of<B>(request: &Request<B>) -> Result<Target, BadRequest> {
    let uri = request.uri();
    let is_path = uri.scheme().is_none()
        && uri.authority().is_none()
        && request.method() != Method::CONNECT
        && (uri.path() != "*" || request.method() == Method::OPTIONS);
    if !is_path {
        return Err(BadRequest::Target(HttpPathError::NotAPath));
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(BadRequest::Hosts);
    };
    Ok(Target {
        host: HttpHost::parse(host.as_bytes())?,
        path: RequestPath::new(uri.path()),
    })
}

/// A request of HTTP/1.0 may name no host. The backend gets one of HTTP/1.1, which must: the name
/// of the service.
pub(super) fn name_a_host<B>(request: &mut Request<B>, service: &str) {
    if request.version() < Version::HTTP_11
        && !request.headers().contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(service)
    {
        request.headers_mut().insert(HOST, host);
    }
}
