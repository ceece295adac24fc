//! For the fuzz targets alone: what becomes of a request's head, without a session around it.

use hyper::{Request, body::Body};
use renkei_access::HttpPath;
use renkei_spiffe::SpiffeId;

use super::{headers, target};

/// The most bytes of a head.
pub const MAX_HEAD: usize = super::MAX_HEAD;

/// The path that policy decides on, and whether a WebSocket is asked for; the headers are those
/// that a backend would get. Nothing when the request is refused unseen.
pub fn request_head<B: Body>(
    request: &mut Request<B>,
    caller: &SpiffeId,
) -> Option<(String, bool)> {
    let path = target::path_of(request).ok()?.to_string();
    let websocket = headers::asks_for_websocket(request);
    headers::prepare_request(request, caller, websocket);
    Some((path, websocket))
}

/// The one form of a path, if it has one.
pub fn path(text: &str) -> Option<String> {
    Some(HttpPath::parse(text).ok()?.to_string())
}
