//! Sending a request over a connection of the session, over one that another session has left in
//! the [`Pool`], or over a new one.
//!
//! Every wait has an end: for a connection (`connect_timeout`), for the backend to take the request
//! and for its response to begin (the service's `response_timeout`), and between two parts of the
//! response (`backend_idle_timeout`).

use std::{sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming};
use renkei_site::{BackendAddress, Service};

use super::{
    body::Passing,
    pool::Pool,
    upload::{Aborted, Upload},
    upstream::{Failure, Upstream},
};
use crate::{
    sessions::{Backends, Connected, Unreachable},
    sockets::OnClose,
};

/// Where requests go.
pub(super) struct To<'a> {
    pub(super) service: &'a Service,
    pub(super) backends: &'a Backends,
    pub(super) pool: &'a Pool,
}

/// Why a backend has no response.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoResponse {
    /// It was not reached; the request is unharmed.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// It broke off.
    #[error("a backend of {service} gave no response: {error}")]
    Broken {
        /// The name of the service.
        service: String,
        /// What HTTP says.
        error: hyper::Error,
    },
    /// It had the request, and its response did not begin.
    #[error("a backend of {service} gave no response within {} s", .limit.as_secs_f32())]
    Late {
        /// The name of the service.
        service: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It did not read the request.
    #[error("a backend of {service} took nothing of a request for {} s", .limit.as_secs_f32())]
    Stalled {
        /// The name of the service.
        service: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The caller broke off its request.
    #[error("the caller broke off its request in the middle")]
    Aborted,
}

fn explain(failure: Failure, service: &Service, limit: Duration, upload: &Upload) -> NoResponse {
    let service = service.name.clone();
    match failure.error {
        _ if upload.aborted().is_set() => NoResponse::Aborted,
        _ if failure.stalled => NoResponse::Stalled { service, limit },
        Some(error) => NoResponse::Broken { service, error },
        None => NoResponse::Late { service, limit },
    }
}

/// A connection that another session has left, if it `may_reuse` one, or a new one; and whether
/// it is reused.
async fn obtain(
    to: &To<'_>,
    may_reuse: bool,
    limit: Duration,
) -> Result<(Upstream, bool), NoResponse> {
    let To {
        service,
        backends,
        pool,
    } = to;
    let reuse = |backend: &BackendAddress| match may_reuse {
        true => pool.take(&service.name, backend),
        false => None,
    };
    // A request says how long it is: cut short by a FIN, it is no whole one.
    let connecting = backends.reuse_or_connect(service, OnClose::Finish, reuse);
    let (stream, backend) = match connecting.await? {
        Connected::Reused(upstream) => return Ok((upstream, true)),
        Connected::New(stream, backend) => (stream, backend),
    };
    let started = Upstream::start(stream, backend, limit).await;
    let started = started.map_err(|error| NoResponse::Broken {
        service: service.name.clone(),
        error,
    });
    Ok((started?, false))
}

/// Leaves it to the next session, of any caller, if that does no harm.
pub(super) fn release(upstream: Upstream, service: &str, pool: &Arc<Pool>) {
    let Some(limit) = upstream.sharing() else {
        return;
    };
    if upstream.is_idle() {
        return pool.put(service, upstream, limit);
    }
    // Its last exchange may not be over yet.
    let (service, pool) = (service.to_owned(), pool.clone());
    tokio::spawn(async move {
        if let Some(upstream) = ready(Some(upstream)).await {
            pool.put(&service, upstream, limit);
        }
    });
}

/// Sends a request over `kept`, or over another connection where that is closed. It is
/// `shareable` if other callers may use the connection after it. A backend may close a connection,
/// kept or new, in the moment in which the request goes out: then it goes out once more over a new
/// one, if that does no harm. What comes back with an error is the rest of the request's body; with
/// a response, whether the caller breaks off its request later.
pub(super) async fn send(
    request: Request<Passing>,
    kept: &mut Option<Upstream>,
    to: &To<'_>,
    (limit, shareable): (Duration, bool),
) -> Result<(Response<Incoming>, Aborted), (NoResponse, Option<Passing>)> {
    let (head, body) = request.into_parts();
    let upload = Upload::new(body);
    let (mut is_first, mut may_reuse) = (true, true);
    loop {
        let (mut upstream, reused) = match ready(kept.take()).await {
            Some(upstream) => (upstream, false),
            None => match obtain(to, may_reuse, limit).await {
                Ok(obtained) => obtained,
                Err(error) => return Err((error, upload.into_rest())),
            },
        };
        if !shareable {
            upstream.forbid_sharing();
        }
        let (body, all_taken) = upload.attempt(is_first);
        let request = Request::from_parts(head.clone(), body);
        let failure = match upstream.ask(request, all_taken, limit).await {
            Ok(response) => {
                *kept = Some(upstream);
                return Ok((response, upload.aborted()));
            }
            Err(failure) => failure,
        };
        if !(is_first && failure.allows_another(&head.method) && upload.can_repeat()) {
            let error = explain(failure, to.service, limit, &upload);
            return Err((error, upload.into_rest()));
        }
        // One that had been closed while it was idle says nothing about the backend.
        is_first = reused && failure.unsent;
        may_reuse = false;
        let error = failure.error.map(|error| error.to_string());
        tracing::debug!(service = to.service.name, error, "a request goes out again");
    }
}

/// A kept connection, if it still takes a request.
async fn ready(kept: Option<Upstream>) -> Option<Upstream> {
    let mut upstream = kept?;
    upstream.is_ready().await.then_some(upstream)
}
