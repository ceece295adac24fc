//! The connection of a session to a backend, and the requests that go over it.
//!
//! Every wait has an end: for a connection (`connect_timeout`), for the backend to take the request
//! and for its response to begin (the service's `response_timeout`), and between two parts of the
//! response (`backend_idle_timeout`).

use std::{sync::Arc, time::Duration};

use hyper::{Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use renkei_site::Service;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    MAX_HEAD,
    body::Passing,
    socket::{BackendSocket, Carried},
    upload::{Aborted, Attempt, Upload},
};
use crate::{
    sessions::{Backends, Unreachable},
    sockets::OnClose,
};

/// How long a kept connection may take to finish its last exchange. A backend that answered early
/// may never read the rest of that request.
const READY: Duration = Duration::from_secs(1);

/// A connection that takes one request at a time.
pub(super) struct Upstream {
    /// `None` once the connection has ended.
    sender: Option<http1::SendRequest<Attempt>>,
    task: JoinHandle<()>,
    carried: Arc<Carried>,
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

/// Why an exchange over one connection failed, and how far it had come.
struct Failure {
    /// What HTTP says; nothing when it took too long.
    error: Option<hyper::Error>,
    /// Nothing of the request was written.
    unsent: bool,
    /// Something of an answer has come.
    answered: bool,
    stalled: bool,
}

impl Failure {
    /// Whether the same request may go out again (RFC 9110 9.2.2, RFC 9112 9.3.1).
    fn allows_another(&self, method: &Method) -> bool {
        let closed = self.error.is_some() && !self.stalled && !self.answered;
        // Others have side effects, and it is not known whether they came about.
        let again = method.is_idempotent() || self.unsent;
        closed && again
    }

    fn explain(self, service: &Service, limit: Duration, upload: &Upload) -> NoResponse {
        let service = service.name.clone();
        match self.error {
            _ if upload.aborted().is_set() => NoResponse::Aborted,
            _ if self.stalled => NoResponse::Stalled { service, limit },
            Some(error) => NoResponse::Broken { service, error },
            None => NoResponse::Late { service, limit },
        }
    }
}

impl Upstream {
    async fn dial(
        (service, backends): (&Service, &Backends),
        limit: Duration,
    ) -> Result<Self, NoResponse> {
        // A request says how long it is: cut short by a FIN, it is no whole one.
        let stream = backends.connect(service, OnClose::Finish).await?;
        let carried = Arc::<Carried>::default();
        let stream = BackendSocket::new(stream, carried.clone(), limit);
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            // RFC 9112 5.1 and 5.2: a proxy takes such responses, and mends them.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| NoResponse::Broken {
                service: service.name.clone(),
                error,
            })?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a backend ended");
            }
        });
        Ok(Self {
            sender: Some(sender),
            task,
            carried,
        })
    }

    /// Whether it takes a request, as far as is known.
    async fn is_ready(&mut self) -> bool {
        let Some(sender) = &mut self.sender else {
            return false;
        };
        matches!(timeout(READY, sender.ready()).await, Ok(Ok(())))
    }

    /// Sends a request and waits for the response to begin, for at most `limit` from when all of
    /// the request was taken.
    async fn ask(
        &mut self,
        request: Request<Attempt>,
        all_taken: oneshot::Receiver<()>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        let (sent, received) = (self.carried.sent(), self.carried.received());
        let fail = |error, unsent, carried: &Carried| Failure {
            error,
            unsent: unsent || carried.sent() == sent,
            answered: carried.received() != received,
            stalled: carried.has_stalled(),
        };
        let Some(sender) = &mut self.sender else {
            return Err(fail(None, true, &self.carried));
        };
        self.carried.head.expect();
        let mut answer = std::pin::pin!(sender.try_send_request(request));
        let late = async {
            // An error is how it is said.
            let _ = all_taken.await;
            sleep(limit).await;
        };
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            _ = &mut self.task => {
                // A request that was handed over in the very moment in which the connection
                // ended is only given back when the sender is gone as well.
                self.sender = None;
                answer.await
            }
            () = late => return Err(fail(None, false, &self.carried)),
        };
        let mut response = answered.map_err(|mut failed| {
            let unsent = failed.take_message().is_some();
            fail(Some(failed.into_error()), unsent, &self.carried)
        })?;
        let surplus = self.carried.head.take_surplus();
        surplus.add_to(response.headers_mut());
        Ok(response)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends a request over `kept`, or over a new connection where that is closed. A backend may close
/// a connection, kept or new, in the moment in which the request goes out: then it goes out once
/// more over a new one, if that does no harm. What comes back with an error is the rest of the
/// request's body; with a response, whether the caller breaks off its request later.
pub(super) async fn send(
    request: Request<Passing>,
    kept: &mut Option<Upstream>,
    (service, backends): (&Service, &Backends),
    limit: Duration,
) -> Result<(Response<Incoming>, Aborted), (NoResponse, Option<Passing>)> {
    let (head, body) = request.into_parts();
    let upload = Upload::new(body);
    let mut is_first = true;
    loop {
        let mut upstream = match ready(kept.take()).await {
            Some(upstream) => upstream,
            None => match Upstream::dial((service, backends), limit).await {
                Ok(upstream) => upstream,
                Err(error) => return Err((error, upload.into_rest())),
            },
        };
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
            let error = failure.explain(service, limit, &upload);
            return Err((error, upload.into_rest()));
        }
        is_first = false;
        let error = failure.error.map(|error| error.to_string());
        tracing::debug!(service = service.name, error, "a request goes out again");
    }
}

/// A kept connection, if it still takes a request.
async fn ready(kept: Option<Upstream>) -> Option<Upstream> {
    let mut upstream = kept?;
    upstream.is_ready().await.then_some(upstream)
}
