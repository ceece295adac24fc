//! Whether a connection to a backend may carry requests of another caller next.
//!
//! Each request is decided on and names its caller by itself, so most connections may. Excluded
//! are connections that a backend could take for one caller's, and those on which it could see
//! another end of a message than this side: what is left over would be the next caller's.

use std::time::Duration;

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode, Version,
    body::Body,
    header::{
        AUTHORIZATION, HeaderName, HeaderValue, PROXY_AUTHENTICATE, TRANSFER_ENCODING,
        WWW_AUTHENTICATE,
    },
};

/// How long a connection may be idle. Servers close idle connections after 2 s (gunicorn), 5 s
/// (Apache, Node.js, uvicorn), 75 s (nginx).
const IDLE: Duration = Duration::from_millis(1_500);
/// The same where the backend says how long it waits.
const MAX_IDLE: Duration = Duration::from_mins(1);
/// A connection ends so long before the backend would end it.
const MARGIN: Duration = Duration::from_secs(1);

/// The timeout for idle connections, by custom (`timeout=5, max=100`).
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
/// IIS says so of a connection that is authenticated.
const PERSISTENT_AUTH: HeaderName = HeaderName::from_static("persistent-auth");
/// Schemes that authenticate a request. NTLM and Negotiate authenticate the connection
/// (RFC 4559 6), and what is not known here may.
const SCHEMES_OF_REQUESTS: [&str; 5] = ["basic", "bearer", "digest", "token", "aws4-hmac-sha256"];

/// Whether a request that goes to the backend lets the connection be shared.
pub(super) fn allowed_by_request<B: Body>(request: &Request<B>, is_websocket: bool) -> bool {
    let headers = request.headers();
    let without_body = request.body().is_end_stream();
    // Some servers do not read the body of a GET, and take it for the next request.
    let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
    let plain = |value: &HeaderValue| value.as_bytes() == b"chunked";
    !is_websocket
        && (without_body || expects_body)
        && headers.get_all(TRANSFER_ENCODING).iter().all(plain)
        && is_of_requests(headers, &AUTHORIZATION)
}

/// Whether the backend's response lets it.
pub(super) fn allowed_by_response<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    response.version() == Version::HTTP_11
        && response.status() != StatusCode::SWITCHING_PROTOCOLS
        && !headers.contains_key(PERSISTENT_AUTH)
        && is_of_requests(headers, &WWW_AUTHENTICATE)
        && is_of_requests(headers, &PROXY_AUTHENTICATE)
}

fn is_of_requests(headers: &HeaderMap, name: &HeaderName) -> bool {
    let known = |value: &HeaderValue| {
        let value = value.as_bytes().to_ascii_lowercase();
        let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
        let names = |one: &[u8]| value.windows(one.len()).any(|part| part == one);
        let is_known = SCHEMES_OF_REQUESTS
            .iter()
            .any(|one| one.as_bytes() == scheme);
        // One field may name several.
        is_known && (*name == AUTHORIZATION || !names(b"ntlm") && !names(b"negotiate"))
    };
    headers.get_all(name).iter().all(known)
}

/// How long the connection may be idle after this response; nothing if it is not to be kept.
pub(super) fn idle_limit<B>(response: &Response<B>) -> Option<Duration> {
    let Some(value) = response.headers().get(KEEP_ALIVE) else {
        return Some(IDLE);
    };
    let mut parameters = value.to_str().ok()?.split(',').map(str::trim);
    let timeout = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_timeout = name.trim().eq_ignore_ascii_case("timeout");
        is_timeout.then(|| value.trim().parse::<u64>())
    });
    match timeout {
        None => Some(IDLE),
        Some(seconds) => {
            let limit = Duration::from_secs(seconds.ok()?).min(MAX_IDLE);
            limit.checked_sub(MARGIN).filter(|limit| !limit.is_zero())
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Empty, Full, combinators::BoxBody};
    use hyper::body::Bytes;

    use super::*;

    type Content = BoxBody<Bytes, std::convert::Infallible>;

    fn request(method: &str, body: &'static str, headers: &[(&str, &str)]) -> Request<Content> {
        let body = match body {
            "" => Empty::new().boxed(),
            body => Full::from(body).boxed(),
        };
        let mut request = Request::builder().method(method);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).unwrap()
    }

    fn response(headers: &[(&str, &str)]) -> Response<()> {
        let mut response = Response::builder();
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(()).unwrap()
    }

    #[test]
    fn a_request_whose_end_could_be_seen_elsewhere_is_not_followed_by_another_callers() {
        for (method, body, allowed) in [
            ("GET", "", true),
            ("POST", "data", true),
            ("PUT", "data", true),
            ("GET", "data", false),
            ("DELETE", "data", false),
            ("UNUSUAL", "data", false),
        ] {
            let request = request(method, body, &[]);
            assert_eq!(
                allowed_by_request(&request, false),
                allowed,
                "{method} {body}"
            );
            assert!(!allowed_by_request(&request, true), "a WebSocket");
        }
        let coded = request("POST", "data", &[("transfer-encoding", "gzip, chunked")]);
        assert!(!allowed_by_request(&coded, false));
    }

    #[test]
    fn what_authenticates_the_connection_is_not_shared() {
        for (value, allowed) in [
            ("Basic YQ==", true),
            ("bearer abc", true),
            ("AWS4-HMAC-SHA256 Credential=a", true),
            ("NTLM TlRMTVNTUAAB", false),
            ("Negotiate YII", false),
            ("Unusual a", false),
        ] {
            let request = request("GET", "", &[("authorization", value)]);
            assert_eq!(allowed_by_request(&request, false), allowed, "{value}");
        }
        for (headers, allowed) in [
            (&[][..], true),
            (&[("www-authenticate", "Basic realm=\"a\"")], true),
            (&[("www-authenticate", "Negotiate")], false),
            (&[("www-authenticate", "Basic realm=\"a\", NTLM")], false),
            (&[("proxy-authenticate", "NTLM")], false),
            (&[("persistent-auth", "true")], false),
        ] {
            assert_eq!(
                allowed_by_response(&response(headers)),
                allowed,
                "{headers:?}"
            );
        }
    }

    #[test]
    fn a_connection_ends_before_the_backend_would_end_it() {
        for (value, limit) in [
            ("timeout=5, max=100", Some(Duration::from_secs(4))),
            ("max=100", Some(IDLE)),
            ("Timeout = 2", Some(Duration::from_secs(1))),
            ("timeout=86400", Some(MAX_IDLE - MARGIN)),
            ("timeout=1", None),
            ("timeout=0", None),
            ("timeout=soon", None),
        ] {
            assert_eq!(
                idle_limit(&response(&[("keep-alive", value)])),
                limit,
                "{value}"
            );
        }
        assert_eq!(idle_limit(&response(&[])), Some(IDLE));
    }
}
