//! Sessions of HTTP/1.1: each request is decided on its own, and passed on to a backend.
//!
//! ```text
//!  caller ──▶ request ──▶ is it one? ──▶ policy ─────────────────▶ backend
//!                          │ no: 400     │ no: 403                 │ none: 502, too slow: 504
//!                                        │ path can be misread: 400
//! ```
//!
//! - Bodies, trailers and their back-pressure go through in both directions; nothing is buffered
//!   beyond what a connection reads at once.
//! - A connection to a backend is kept for the session and replaced when it is closed. A request
//!   that goes out as it closes goes out once more, if that does no harm. When the session is over,
//!   sessions of all callers of the service may use it, if that does no harm ([`sharing`]).
//! - A connection between requests may be quiet for as long as it likes; a request that has begun
//!   must have its head complete in time.
//! - A caller may end its direction when it has sent its requests, and gets its answers; one that
//!   resets its connection ends the request under way. Half a request is never a whole one.
//! - A response that has arrived is passed on, even if its backend did not read the request. A
//!   connection that is closed with a request half read is read on for a while, so that the caller
//!   gets to read the answer.
//! - At the drain the request under way is finished, then the connection is closed.
//! - Framing is hyper's: a request with both lengths is read as chunked (RFC 9112 6.1), passed on
//!   without its content-length, and its connection closed.
//! - A path is looked at where a rule reads it ([`renkei_access::HttpPath`]).
//! - A caller that may not connect gets HTTP 403, and its connection is closed.
//! - What is no request of HTTP/1.1 is answered by hyper, or here, and recorded with its reason.
//! - HTTP/2 has no place here: a caller that begins with its preface is refused.

mod body;
mod codings;
mod counted_stream;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod head_reader;
mod headers;
mod interim;
mod linger;
mod pool;
mod progress;
mod refusal;
mod send;
mod session;
mod sharing;
mod socket;
mod surplus;
mod target;
mod target_encoder;
mod tunnel;
mod unreadable;
mod upload;
mod upstream;

use std::{convert::Infallible, sync::Arc};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::time::sleep;

pub(crate) use self::pool::Pool;
use self::{
    counted_stream::CountedStream, interim::Interim, progress::Progress, session::HttpSession,
    unreadable::Unreadable,
};
use super::Backends;
use crate::{
    context::{Context, Flow},
    wan::WanStream,
};

/// Bytes of a head, request line included, and of trailers.
const MAX_HEAD: usize = 64 * 1024;

/// The caller, as its session presents it to backends.
pub(crate) struct Caller {
    /// The SHA-256 of its certificate, in hexadecimal digits.
    pub(crate) certificate_hash: String,
    /// The text of its refusal, if it may not connect.
    pub(crate) denied: Option<String>,
}

/// Serves one connection up to its end.
pub(crate) async fn serve(
    stream: WanStream,
    flow: &Arc<Flow>,
    (service, caller): (&str, Caller),
    (context, backends, pool): (&Arc<Context>, &Arc<Backends>, &Arc<Pool>),
) {
    let (progress, interim) = (Arc::<Progress>::default(), Arc::<Interim>::default());
    let limit = context.limits.handshake_timeout;
    let shared = (progress, interim);
    let stream = CountedStream::new(stream, flow.clone(), shared.clone(), limit);
    let is_denied = caller.denied.is_some();
    let parts = (context.clone(), backends.clone(), pool.clone());
    let session = HttpSession::new(flow.clone(), (service.to_owned(), caller), parts, shared);
    let session = Arc::new(session);
    let answer = service_fn(|request| {
        let session = session.clone();
        async move { Ok::<_, Infallible>(session.answer(request).await) }
    });
    let mut connection = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    let mut drain = std::pin::pin!(context.drain.signaled());
    let mut denial_timeout = std::pin::pin!(sleep(limit));
    let mut draining = false;
    let end = loop {
        tokio::select! {
            biased;
            () = flow.cut_token().cancelled() => return,
            () = &mut drain, if !draining => {
                draining = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            end = &mut connection => break end,
            // It has nothing to wait for.
            () = &mut denial_timeout, if is_denied => return,
        }
    };
    session.release_upstream();
    let stream = connection.into_parts().map(|parts| parts.io.into_inner());
    if let Some(stream) = stream {
        tokio::select! {
            () = flow.cut_token().cancelled() => {}
            () = conclude(end, stream, &session) => {}
        }
    }
    if let Some(tunnel) = session.take_tunnel() {
        tunnel.carry(flow).await;
    }
}

/// Ends a connection that is no tunnel. What came over it that was no request is recorded first.
async fn conclude(end: hyper::Result<()>, mut stream: CountedStream, session: &HttpSession) {
    if let Err(error) = end {
        tracing::debug!(%error, "the session of HTTP ended");
        match Unreadable::of(&error, &stream) {
            Some(unreadable) => {
                session.record(unreadable.label, unreadable.sentence(session.caller_id()));
                unreadable.answer(&mut stream).await;
            }
            // It must not look like a clean end.
            None => return stream.fail(),
        }
    }
    stream.close().await;
}
