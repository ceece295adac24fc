//! The connection of a session to a backend.

use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use renkei_site::Service;
use tokio::task::JoinHandle;

use super::{MAX_HEAD, body::Passing, socket::BackendSocket};
use crate::{inbound::backend::Unreachable, plain::OnClose, shared::Shared};

/// A connection that takes one request at a time.
pub(super) struct Upstream {
    sender: http1::SendRequest<Passing>,
    task: JoinHandle<()>,
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
        /// Whose.
        service: String,
        /// What HTTP says.
        error: hyper::Error,
    },
}

impl Upstream {
    async fn dial(service: &Service, shared: &Shared) -> Result<Self, NoResponse> {
        // A request says how long it is: cut short by a FIN, it is no whole one.
        let backends = &shared.backends;
        let stream = backends.connect(service, shared, OnClose::Finish).await?;
        let limit = shared.limits.backend_response;
        let stream = BackendSocket::new(stream, limit);
        let (sender, connection) = http1::Builder::new()
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(service, error))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to a backend ended");
            }
        });
        Ok(Self { sender, task })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Sends a request over `kept`, or over a new connection where that is closed. What comes back
/// with an error is the request, as far as it was not sent.
pub(super) async fn send(
    mut request: Request<Passing>,
    kept: &mut Option<Upstream>,
    service: &Service,
    shared: &Shared,
) -> Result<Response<Incoming>, (NoResponse, Option<Request<Passing>>)> {
    loop {
        let (mut upstream, is_new) = match kept.take() {
            Some(upstream) => (upstream, false),
            None => match Upstream::dial(service, shared).await {
                Ok(upstream) => (upstream, true),
                Err(error) => return Err((error, Some(request))),
            },
        };
        if upstream.sender.ready().await.is_err() && !is_new {
            continue;
        }
        match upstream.sender.try_send_request(request).await {
            Ok(response) => {
                *kept = Some(upstream);
                return Ok(response);
            }
            Err(mut failed) => match failed.take_message() {
                // It was closed while it was not in use.
                Some(unsent) if !is_new => request = unsent,
                unsent => return Err((broken(service, failed.into_error()), unsent)),
            },
        }
    }
}

fn broken(service: &Service, error: hyper::Error) -> NoResponse {
    NoResponse::Broken {
        service: service.name.clone(),
        error,
    }
}
