//! What is added to the headers of a message on its way, and what is taken out.

use hyper::{
    HeaderMap, Method, Request, Response, Version,
    body::Body,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
        UPGRADE,
    },
};
use renkei_spiffe::SpiffeId;

/// Tells a backend who calls.
const PEER: HeaderName = HeaderName::from_static("x-renkei-peer");
/// Headers that are about one connection (RFC 9110 7.6.1), or about a proxy.
const OF_A_CONNECTION: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];
/// Headers by which some backends take a request for another one than was decided on.
const CLAIMS: [&str; 6] = [
    "x-renkei-peer",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];

/// Whether a request asks for a WebSocket. Other upgrades are not passed on: HTTP/2 for one would
/// carry requests about which nothing is decided.
pub(super) fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut upgrades = headers.get_all(UPGRADE).iter();
    let is_websocket = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"websocket");
    request.version() == Version::HTTP_11
        && request.method() == Method::GET
        && upgrades.next().is_some_and(is_websocket)
        && upgrades.next().is_none()
        && has_token(headers, &CONNECTION, "upgrade")
}

/// Makes the request of a caller one of this side.
pub(super) fn prepare_request<B: Body>(
    request: &mut Request<B>,
    caller: &SpiffeId,
    websocket: bool,
) {
    let body = request.body();
    let chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
    let headers = request.headers_mut();
    let trailers = has_token(headers, &TE, "trailers");
    remove_of_connection(headers);
    remove_claims(headers);
    // Answered by this side, as soon as a backend has accepted.
    headers.remove(EXPECT);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if chunked {
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if websocket {
        add_upgrade(headers);
    }
    // An ID consists of characters that a header may have.
    if let Ok(value) = HeaderValue::from_str(&caller.to_string()) {
        headers.insert(PEER, value);
    }
    *request.version_mut() = Version::HTTP_11;
}

/// Makes the response of a backend one of this side.
pub(super) fn prepare_response<B: Body>(response: &mut Response<B>, websocket: bool) {
    let has_length = response.body().size_hint().exact().is_some();
    let headers = response.headers_mut();
    remove_of_connection(headers);
    if !has_length {
        headers.remove(CONTENT_LENGTH);
    }
    if websocket {
        add_upgrade(headers);
    }
    *response.version_mut() = Version::HTTP_11;
}

/// Removes what a backend could take for this side's word, however it is spelled: some servers
/// read `_` in a name as `-`.
pub(super) fn remove_claims(headers: &mut HeaderMap) {
    let is_claim = |name: &&HeaderName| CLAIMS.contains(&name.as_str().replace('_', "-").as_str());
    let claims: Vec<HeaderName> = headers.keys().filter(is_claim).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

fn remove_of_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| ![HOST, CONTENT_LENGTH].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in OF_A_CONNECTION {
        headers.remove(name);
    }
}

fn add_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn has_token(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.split(';').next().unwrap_or_default().trim())
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use hyper::body::Bytes;

    use super::*;

    fn request(headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
        let mut request = Request::new(Empty::new());
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    }

    fn passed_on(headers: &[(&str, &str)], websocket: bool) -> Vec<String> {
        let mut request = request(headers);
        let caller = SpiffeId::parse("spiffe://osaka.example/collector").unwrap();
        prepare_request(&mut request, &caller, websocket);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<String> = request.headers().iter().map(line).collect();
        lines.sort();
        lines
    }

    const TOLD: &str = "x-renkei-peer: spiffe://osaka.example/collector";

    #[test]
    fn the_peer_is_this_sides_word_alone() {
        let forged = [
            ("x-renkei-peer", "spiffe://osaka.example/admin"),
            ("x-renkei-peer", "spiffe://osaka.example/root"),
            ("x_renkei_peer", "spiffe://osaka.example/admin"),
            ("x-http-method-override", "DELETE"),
            ("x-original-url", "/admin"),
            ("connection", "x-renkei-peer"),
        ];
        assert_eq!(passed_on(&forged, false), [TOLD]);
    }

    #[test]
    fn what_is_about_the_connection_stays_here() {
        let headers = [
            ("connection", "close, X-Secret, te, host"),
            ("connection", "content-length"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-authorization", "Basic x"),
            ("te", "trailers;q=0.5, deflate"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("host", "records"),
            ("content-length", "0"),
            ("authorization", "Bearer x"),
        ];
        assert_eq!(
            passed_on(&headers, false),
            [
                "authorization: Bearer x",
                "content-length: 0",
                "host: records",
                "te: trailers",
                TOLD
            ]
        );
    }

    #[test]
    fn only_websockets_are_upgraded() {
        for (upgrade, connection, expected) in [
            ("websocket", "Upgrade", true),
            ("WebSocket", "keep-alive, upgrade", true),
            ("websocket", "keep-alive", false),
            ("h2c", "Upgrade", false),
            ("websocket, h2c", "Upgrade", false),
        ] {
            let request = request(&[("upgrade", upgrade), ("connection", connection)]);
            assert_eq!(
                asks_for_websocket(&request),
                expected,
                "{upgrade} {connection}"
            );
        }
        let lines = passed_on(&[("upgrade", "websocket"), ("connection", "upgrade")], true);
        assert_eq!(lines, ["connection: upgrade", "upgrade: websocket", TOLD]);
    }
}
