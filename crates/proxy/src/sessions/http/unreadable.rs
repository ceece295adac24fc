//! What a caller sends that is no request of HTTP/1.1: why, under which name it is counted, and
//! what the caller gets. hyper answers a head that it cannot read by itself; what came half or
//! not in time is answered here.

use std::{error::Error, io, time::Duration};

use hyper::StatusCode;
use renkei_spiffe::SpiffeId;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::{MAX_HEAD, counted_stream::CountedStream, target_encoder::OtherProtocol};

/// How long a caller has to take its answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// A short, stable name for the counters.
    pub(super) label: &'static str,
    /// What the caller did.
    what: String,
    /// The answer, if hyper has given none.
    answer: Option<StatusCode>,
}

impl Unreadable {
    /// Why the connection ended with an error, if that is for what the caller sent as the head of
    /// a request.
    pub(super) fn of(error: &hyper::Error, stream: &CountedStream) -> Option<Self> {
        let source = error.source().and_then(|source| source.downcast_ref());
        let is_late = source.is_some_and(|io: &io::Error| io.kind() == io::ErrorKind::TimedOut);
        let (label, what, answer) = match stream.other_protocol() {
            Some(OtherProtocol::Tls) => (
                "other_protocol",
                "began with a TLS handshake, and the service has protocol http; use `protocol: \
                 tcp`, or a client without TLS"
                    .to_owned(),
                None,
            ),
            Some(OtherProtocol::Http2) => (
                "other_protocol",
                "began with HTTP/2, and protocol http is HTTP/1.1; use `protocol: tcp` for HTTP/2"
                    .to_owned(),
                None,
            ),
            None if error.is_parse_too_large() => (
                "head_too_large",
                format!(
                    "sent the head of a request with more than {} KiB",
                    MAX_HEAD / 1024
                ),
                None,
            ),
            None if error.is_parse() => (
                "bad_request",
                format!("sent what is no request of HTTP/1.1: {error}"),
                None,
            ),
            None if is_late => (
                "head_timeout",
                "did not send the whole head of a request in time".to_owned(),
                Some(StatusCode::REQUEST_TIMEOUT),
            ),
            None if error.is_incomplete_message() && stream.is_in_head() => (
                "request_aborted",
                "broke off the head of a request".to_owned(),
                Some(StatusCode::BAD_REQUEST),
            ),
            None => return None,
        };
        Some(Self {
            label,
            what,
            answer: answer.filter(|_| stream.is_between_messages()),
        })
    }

    /// One sentence for people.
    pub(super) fn sentence(&self, caller: &SpiffeId) -> String {
        format!("{} {}", caller.short(), self.what)
    }

    /// Gives the caller its answer, if it has none.
    pub(super) async fn answer(self, stream: &mut CountedStream) {
        let Some(status) = self.answer else {
            return;
        };
        let reason = status.canonical_reason().unwrap_or_default();
        let text = format!("the caller {}\n", self.what);
        let answer = format!(
            "HTTP/1.1 {} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{text}",
            status.as_u16(),
            text.len()
        );
        let written = async {
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await
        };
        // Without it the connection ends all the same.
        let _ = timeout(ANSWER_TIME, written).await;
    }
}
