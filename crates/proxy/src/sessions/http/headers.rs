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

/// Names the caller for a backend.
const PEER: HeaderName = HeaderName::from_static("x-renkei-peer");
/// Names the caller for a backend in the form of Envoy.
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
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
/// Headers that say where a message ends, and for whom it is.
const OF_THE_FRAMING: [&str; 4] = ["content-length", "expect", "host", "trailer"];
/// Headers by which some backends take a request for another one than was decided on.
const OTHER_REQUEST: [&str; 5] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
];
/// The same for its host.
const OTHER_HOST: [&str; 6] = [
    "forwarded",
    "x-forwarded-host",
    "x-forwarded-server",
    "x-host",
    "x-http-host-override",
    "x-original-host",
];
/// What headers begin with, without separators, by which proxies say whose certificate they have
/// verified: this side's, Envoy's, RFC 9440's, nginx's and Apache's by custom, Traefik's,
/// Linkerd's, and those of load balancers in clouds.
const OF_A_CALLER: [&str; 13] = [
    "xrenkei",
    "xforwardedclientcert",
    "clientcert",
    "xclientcert",
    "xforwardedtlsclientcert",
    "sslclient",
    "xsslclient",
    "xsslcert",
    "l5dclientid",
    "xspiffe",
    "xamznmtlsclientcert",
    "xarrclientcert",
    "xverifiedclient",
];

/// The caller, as the headers for the backend name it.
#[derive(Debug)]
pub(super) struct CallerHeaders {
    peer: HeaderValue,
    client_cert: HeaderValue,
}

impl CallerHeaders {
    /// From both IDs, and the SHA-256 of the caller's certificate in hexadecimal digits. Nothing
    /// in them needs quotes in the format of Envoy.
    pub(super) fn new(caller: &SpiffeId, callee: &SpiffeId, hash: &str) -> Self {
        // An ID consists of characters that a header may have.
        let value = |text: String| HeaderValue::from_str(&text);
        let empty = |_| HeaderValue::from_static("");
        let client_cert = format!("By={callee};Hash={hash};URI={caller}");
        Self {
            peer: value(caller.to_string()).unwrap_or_else(empty),
            client_cert: value(client_cert).unwrap_or_else(empty),
        }
    }
}

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

/// Makes the request of a caller one of this side; `by_host` where a rule reads its host.
pub(super) fn prepare_request<B: Body>(
    request: &mut Request<B>,
    caller: &CallerHeaders,
    (websocket, by_host): (bool, bool),
    codings: Option<HeaderValue>,
) {
    let body = request.body();
    let chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
    let headers = request.headers_mut();
    let trailers = has_token(headers, &TE, "trailers");
    remove_of_connection(headers);
    remove_claims(headers, by_host);
    // Answered by this side, as soon as a backend has accepted.
    headers.remove(EXPECT);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if chunked {
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, chunked_after(codings));
    }
    if websocket {
        add_upgrade(headers);
    }
    headers.insert(PEER, caller.peer.clone());
    headers.insert(CLIENT_CERT, caller.client_cert.clone());
    *request.version_mut() = Version::HTTP_11;
}

/// Makes the response of a backend one of this side.
pub(super) fn prepare_response<B: Body>(
    response: &mut Response<B>,
    websocket: bool,
    codings: Option<HeaderValue>,
) {
    let has_length = response.body().size_hint().exact().is_some();
    let headers = response.headers_mut();
    remove_of_connection(headers);
    if !has_length {
        headers.remove(CONTENT_LENGTH);
    }
    if codings.is_some() {
        headers.insert(TRANSFER_ENCODING, chunked_after(codings));
    }
    if websocket {
        add_upgrade(headers);
    }
    *response.version_mut() = Version::HTTP_11;
}

/// What of an interim response the caller gets.
pub(super) fn interim_headers(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    remove_of_connection(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers
}

/// Removes what a backend could take for this side's word, or for another request, however it is
/// spelled: what becomes of a name in CGI (RFC 3875 4.1.18), and in servers that read `_` as `-`.
/// Other hosts are removed where a rule reads the host.
pub(super) fn remove_claims(headers: &mut HeaderMap, by_host: bool) {
    let mut folded = String::new();
    let claims = headers.keys().filter(|name| {
        fold(name, &mut folded);
        is_claim(&folded, by_host) || is_misspelled(name, &folded)
    });
    let claims: Vec<HeaderName> = claims.cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// A name without everything that servers replace or leave out.
fn fold(name: &HeaderName, folded: &mut String) {
    folded.clear();
    folded.extend(name.as_str().chars().filter(char::is_ascii_alphanumeric));
}

fn is_claim(folded: &str, by_host: bool) -> bool {
    let is_one_of = |names: &[&str]| names.iter().any(|name| folds_to(name, folded));
    OF_A_CALLER.iter().any(|start| folded.starts_with(start))
        || is_one_of(&OTHER_REQUEST)
        || by_host && is_one_of(&OTHER_HOST)
}

/// Whether a server may take it for a header that is looked after elsewhere in its own spelling.
fn is_misspelled(name: &HeaderName, folded: &str) -> bool {
    let mut own = OF_A_CONNECTION.iter().chain(&OF_THE_FRAMING);
    own.any(|own| folds_to(own, folded) && *own != name.as_str())
}

fn folds_to(name: &str, folded: &str) -> bool {
    let mut parts = name.split('-');
    let rest = parts.try_fold(folded, |rest, part| rest.strip_prefix(part));
    rest == Some("")
}

fn chunked_after(codings: Option<HeaderValue>) -> HeaderValue {
    codings.unwrap_or(HeaderValue::from_static("chunked"))
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

    /// The lines that a backend gets besides those that name the caller.
    fn passed_on(headers: &[(&str, &str)], (websocket, by_host): (bool, bool)) -> Vec<String> {
        let mut request = request(headers);
        let id = |text| SpiffeId::parse(text).unwrap();
        let caller = CallerHeaders::new(
            &id("spiffe://osaka.example/collector"),
            &id("spiffe://hokkaido.example/broker"),
            "00ff",
        );
        prepare_request(&mut request, &caller, (websocket, by_host), None);
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        let mut lines: Vec<String> = request.headers().iter().map(line).collect();
        lines.sort();
        let (told, lines) = lines
            .into_iter()
            .partition(|line: &String| TOLD.contains(&line.as_str()));
        let told: Vec<String> = told;
        assert_eq!(told, TOLD);
        lines
    }

    const NOTHING: [String; 0] = [];
    const TOLD: [&str; 2] = [
        "x-forwarded-client-cert: By=spiffe://hokkaido.example/broker;Hash=00ff;\
         URI=spiffe://osaka.example/collector",
        "x-renkei-peer: spiffe://osaka.example/collector",
    ];

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
        assert_eq!(passed_on(&forged, (false, false)), NOTHING);
        for name in [
            "X.Renkei.Peer",
            "x!renkei!peer",
            "x~renkei~peer",
            "x'renkei'peer",
            "x-renkei_peer",
            "x--renkei-peer",
            "x-renkei-peer-",
            "xrenkeipeer",
            "x-renkei-peer-id",
            "x-forwarded-client-cert",
            "X_Forwarded.Client-Cert",
            "x-forwarded-client-cert-chain",
            "client-cert",
            "client-cert-chain",
            "x-client-cert",
            "x-forwarded-tls-client-cert-info",
            "ssl-client-verify",
            "ssl_client_s_dn",
            "x-ssl-client-cn",
            "l5d-client-id",
            "x-amzn-mtls-clientcert-subject",
            "x.original.url",
            "transfer_encoding",
            "transfer.encoding",
            "content_length",
            "h.o.s.t",
            "t~e",
        ] {
            assert_eq!(passed_on(&[(name, "x")], (false, false)), NOTHING, "{name}");
        }
        for kept in [
            "x-renk",
            "client",
            "x-client-id",
            "ssl",
            "x-forwarded-for",
            "hosts",
        ] {
            let line = format!("{kept}: x");
            assert_eq!(passed_on(&[(kept, "x")], (false, true)), [line]);
        }
    }

    #[test]
    fn another_host_is_removed_where_a_rule_reads_the_host() {
        for name in OTHER_HOST {
            let line = format!("{name}: x");
            assert_eq!(passed_on(&[(name, "x")], (false, false)), [line]);
            assert_eq!(passed_on(&[(name, "x")], (false, true)), NOTHING);
            let other = name.replace('-', "_");
            assert_eq!(passed_on(&[(&other, "x")], (false, true)), NOTHING);
        }
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
            passed_on(&headers, (false, false)),
            [
                "authorization: Bearer x",
                "content-length: 0",
                "host: records",
                "te: trailers",
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
        let asked = [("upgrade", "websocket"), ("connection", "upgrade")];
        let lines = passed_on(&asked, (true, false));
        assert_eq!(lines, ["connection: upgrade", "upgrade: websocket"]);
    }
}
