//! For the fuzz targets alone: what becomes of a request's head, without a session around it.

use hyper::{Request, body::Body};
use renkei_access::HttpPath;
use renkei_spiffe::SpiffeId;

use super::{codings, headers, target};

/// The most bytes of a head.
pub const MAX_HEAD: usize = super::MAX_HEAD;

/// The path that rules are compared with, if it has a form for that, and whether a WebSocket is
/// asked for; the headers are those that a backend would get. Nothing when the request is refused
/// whatever the rules say.
pub fn request_head<B: Body>(
    request: &mut Request<B>,
    caller: &SpiffeId,
) -> Option<(Option<String>, bool)> {
    target::name_a_host(request, "service.example");
    let path = target::target_of(request).ok()?.path;
    let codings = codings::codings_of(request.headers()).ok()?;
    let websocket = headers::asks_for_websocket(request);
    let told = headers::CallerHeaders::new(caller, caller, "00");
    headers::prepare_request(request, &told, (websocket, true), codings);
    let form = path.form().ok().map(ToString::to_string);
    Some((form, websocket))
}

/// The one form of a path, if it has one.
pub fn path(text: &str) -> Option<String> {
    Some(HttpPath::parse(text).ok()?.to_string())
}
