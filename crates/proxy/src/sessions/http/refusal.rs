//! Answers of this side to requests that no backend answers.

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
};
use renkei_spiffe::SpiffeId;

use super::{body::Passing, progress::Held, send::NoResponse};

/// An answer of this side.
pub(super) struct RequestRefusal {
    pub(super) status: StatusCode,
    /// A short, stable name for the counters.
    pub(super) label: &'static str,
    /// For the caller.
    pub(super) answer_text: String,
    /// For this side's log, which may say more; nothing if it has been logged.
    pub(super) sentence: Option<String>,
}

impl RequestRefusal {
    /// Of a request that got no response of a backend of the callee.
    pub(super) fn of(error: &NoResponse, callee: &SpiffeId) -> Self {
        let callee = callee.short();
        let (status, label, answer_text) = match error {
            NoResponse::Unreachable(down) => (
                match down.is_silent() {
                    true => StatusCode::GATEWAY_TIMEOUT,
                    false => StatusCode::BAD_GATEWAY,
                },
                "backend_unavailable",
                format!("no backend of {callee} answers"),
            ),
            NoResponse::Broken { .. } => (
                StatusCode::BAD_GATEWAY,
                "backend_failed",
                format!("a backend of {callee} gave no response"),
            ),
            NoResponse::Late { .. } | NoResponse::Stalled { .. } => (
                StatusCode::GATEWAY_TIMEOUT,
                "backend_timeout",
                format!("a backend of {callee} gave no response in time"),
            ),
            NoResponse::Aborted => (
                StatusCode::BAD_REQUEST,
                "request_aborted",
                "the request ends in its middle".to_owned(),
            ),
        };
        Self {
            status,
            label,
            answer_text,
            sentence: Some(error.to_string()),
        }
    }

    /// The answer for the caller.
    pub(super) fn into_response(self, held: Held) -> Response<Passing> {
        let text = format!("{}\n", self.answer_text);
        let mut response = Response::new(Passing::text(text, held));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(CONTENT_TYPE, plain);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}
