//! Sessions of HTTP/1.1: each request is decided on its own, and passed on to a backend.
//!
//! ```text
//!  caller ──▶ request ──▶ can its path be misread? ──▶ policy ──▶ backend
//!                          │ yes: 400                   │ no: 403  │ none: 502, too slow: 504
//! ```
//!
//! - Bodies, trailers and their back-pressure go through in both directions; nothing is buffered
//!   beyond what a connection reads at once.
//! - A connection to a backend is kept for the session and replaced when it is closed. A request
//!   that goes out as it closes goes out once more, if that does no harm.
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
//! - HTTP/2 has no place here: a caller that begins with its preface is refused.

mod body;
mod counted_stream;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod headers;
mod linger;
mod progress;
mod session;
mod socket;
mod target;
mod tunnel;
mod upload;
mod upstream;

use std::{convert::Infallible, pin::pin, sync::Arc};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

use self::{counted_stream::CountedStream, progress::Progress, session::HttpSession};
use super::Backends;
use crate::{
    context::{Context, Flow},
    wan::WanStream,
};

/// Bytes of a head, request line included, and of trailers.
const MAX_HEAD: usize = 64 * 1024;

/// Serves one connection of an admitted caller up to its end.
pub(crate) async fn serve(
    stream: WanStream,
    flow: &Arc<Flow>,
    service: &str,
    (context, backends): (&Arc<Context>, &Arc<Backends>),
) {
    let progress = Arc::new(Progress::default());
    let limit = context.limits.handshake_timeout;
    let stream = CountedStream::new(stream, flow.clone(), progress.clone(), limit);
    let session = HttpSession::new(
        flow.clone(),
        service.to_owned(),
        (context.clone(), backends.clone()),
        progress.clone(),
    );
    let session = Arc::new(session);
    let answer = service_fn(|request| {
        let session = session.clone();
        async move { Ok::<_, Infallible>(session.answer(request).await) }
    });
    let connection = http1::Builder::new()
        .max_header_size(MAX_HEAD)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades();
    let mut connection = pin!(connection);
    let mut drain = pin!(context.drain.signaled());
    let mut draining = false;
    let end = loop {
        tokio::select! {
            biased;
            () = flow.cut_token().cancelled() => return,
            () = &mut drain, if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            end = connection.as_mut() => break end,
        }
    };
    if let Err(error) = end {
        // What is no request was answered so; everything else must not look like a clean end.
        if !error.is_parse() {
            progress.fail();
        }
        tracing::debug!(flow = flow.id, %error, "the session of HTTP ended");
    }
    if let Some(tunnel) = session.take_tunnel() {
        tunnel.carry(flow).await;
    }
}
