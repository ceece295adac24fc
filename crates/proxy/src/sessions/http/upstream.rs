//! A connection to a backend, and one request after the other over it.

use std::{fmt, sync::Arc, time::Duration};

use hyper::{Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use renkei_site::BackendAddress;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    MAX_HEAD, sharing,
    socket::{BackendSocket, Carried},
    upload::Attempt,
};
use crate::sockets::PlainStream;

/// How long a kept connection may take to finish its last exchange. A backend that answered early
/// may never read the rest of that request.
const READY: Duration = Duration::from_secs(1);

/// A connection that takes one request at a time.
pub(super) struct Upstream {
    /// `None` once the connection has ended.
    sender: Option<http1::SendRequest<Attempt>>,
    task: JoinHandle<()>,
    carried: Arc<Carried>,
    backend: BackendAddress,
    sharing: Option<Duration>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({})", self.backend)
    }
}

/// Why an exchange over one connection failed, and how far it had come.
pub(super) struct Failure {
    /// What HTTP says; nothing when it took too long.
    pub(super) error: Option<hyper::Error>,
    /// Nothing of the request was written.
    pub(super) unsent: bool,
    /// Something of an answer has come.
    answered: bool,
    pub(super) stalled: bool,
}

impl Failure {
    /// Whether the same request may go out again (RFC 9110 9.2.2, RFC 9112 9.3.1).
    pub(super) fn allows_another(&self, method: &Method) -> bool {
        let closed = self.error.is_some() && !self.stalled && !self.answered;
        // Others have side effects, and it is not known whether they came about.
        let again = method.is_idempotent() || self.unsent;
        closed && again
    }
}

impl Upstream {
    /// Speaks HTTP over a connection to a backend. `limit` is how long that may take nothing of a
    /// request.
    pub(super) async fn start(
        stream: PlainStream,
        backend: BackendAddress,
        limit: Duration,
    ) -> hyper::Result<Self> {
        let carried = Arc::<Carried>::default();
        let stream = BackendSocket::new(stream, carried.clone(), limit);
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            // RFC 9112 5.1 and 5.2: a proxy takes such responses, and mends them.
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .handshake(TokioIo::new(stream))
            .await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a backend ended");
            }
        });
        Ok(Self {
            sender: Some(sender),
            task,
            carried,
            backend,
            sharing: Some(Duration::ZERO),
        })
    }

    pub(super) fn backend(&self) -> &BackendAddress {
        &self.backend
    }

    /// How long it may be idle before another caller's session uses it; nothing if none may.
    pub(super) fn sharing(&self) -> Option<Duration> {
        self.sharing
    }

    /// No other caller may use it from now on.
    pub(super) fn forbid_sharing(&mut self) {
        self.sharing = None;
    }

    /// Whether it takes a request now.
    pub(super) fn is_idle(&self) -> bool {
        let sender = self.sender.as_ref();
        sender.is_some_and(|sender| sender.is_ready() && !sender.is_closed())
    }

    /// Whether it takes a request, as far as is known.
    pub(super) async fn is_ready(&mut self) -> bool {
        let Some(sender) = &mut self.sender else {
            return false;
        };
        matches!(timeout(READY, sender.ready()).await, Ok(Ok(())))
    }

    /// Sends a request and waits for the response to begin, for at most `limit` from when all of
    /// the request was taken.
    pub(super) async fn ask(
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
        let sharing = self.sharing;
        let sharing = sharing.filter(|_| sharing::allowed_by_response(&response));
        self.sharing = sharing.and_then(|_| sharing::idle_limit(&response));
        Ok(response)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
