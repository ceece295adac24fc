//! The process's side: the socket, who holds it, and the answers.

use std::{
    fmt,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use thiserror::Error;

use super::{ErrorBody, MAX_REQUEST_BYTES};
use crate::{
    http1::{self, HttpLimits},
    unix_socket::{SocketError, UnixSocket},
};

/// Time to send the whole body of a request.
const BODY_TIME: Duration = Duration::from_secs(10);

type Answer = Pin<Box<dyn Future<Output = Result<Value, ControlError>> + Send>>;
type Handler = dyn Fn(Method, String, Bytes) -> Answer + Send + Sync;

/// What answers the requests.
#[derive(Clone)]
pub struct Router(Arc<Handler>);

impl Router {
    /// From a function of method, path and body.
    pub fn new<H, F>(handler: H) -> Self
    where
        H: Fn(Method, String, Bytes) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Value, ControlError>> + Send + 'static,
    {
        Self(Arc::new(move |method, path, body| {
            Box::pin(handler(method, path, body))
        }))
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Router(..)")
    }
}

/// An answer that is not a success.
#[derive(Debug, Clone, Error)]
#[error("{message}")]
pub struct ControlError {
    /// The HTTP status of the answer.
    pub status: StatusCode,
    /// One sentence for a person.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// More for programs (the faults of a site file, say); null when there is no more.
    pub details: Value,
}

impl ControlError {
    /// An error with a message alone.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            hint: None,
            details: Value::Null,
        }
    }

    /// Nothing is served under this path with this method.
    pub fn not_found(method: &Method, path: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            format!("{method} {path} is not a command"),
        )
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// Adds more for programs.
    #[must_use]
    pub fn with_details(self, details: Value) -> Self {
        Self { details, ..self }
    }
}

/// Why the socket cannot be opened.
#[derive(Debug, Error)]
pub enum BindError {
    /// A site is served with this state folder already.
    #[error("Renkei is already running with the control socket {}", path.display())]
    AlreadyRunning {
        /// The path of the control socket.
        path: PathBuf,
    },
    /// The socket, its folder or its lock cannot be used.
    #[error(transparent)]
    Socket(SocketError),
}

impl BindError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::AlreadyRunning { .. } => {
                "stop that process, or choose another state folder".to_owned()
            }
            Self::Socket(error) => error.hint(),
        }
    }
}

impl From<SocketError> for BindError {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::InUse { path, .. } => Self::AlreadyRunning { path },
            error => Self::Socket(error),
        }
    }
}

/// The socket, which is this process's until it is dropped.
#[derive(Debug)]
pub struct Server(UnixSocket);

impl Server {
    /// Opens the socket (mode 0600, in a folder of mode 0700 made where it is missing), replacing
    /// one that a dead process left. Within a tokio runtime.
    ///
    /// # Errors
    /// When a living process holds it, or the folder is not private, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Ok(Self(UnixSocket::open("control", path, 0o600)?))
    }

    /// The path of the socket.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Answers until dropped. A command that has begun is finished even if its client goes away.
    pub async fn serve(&self, router: Router) {
        let limits = HttpLimits {
            connections: 64,
            by_address: false,
            head_time: Duration::from_secs(5),
            time: Duration::from_secs(300),
        };
        let handler = move |request| answer(router.clone(), request);
        http1::serve(self.0.listener(), limits, handler).await;
    }
}

async fn answer(router: Router, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let result = match read(body).await {
        Ok(body) => {
            let answer = (router.0)(head.method, head.uri.path().to_owned(), body);
            // On its own task: a client that goes away must not leave half a command done.
            tokio::spawn(answer).await.unwrap_or_else(|error| {
                tracing::error!(%error, "a command ended without an answer");
                let message = "the command ended without an answer; see the log";
                Err(ControlError::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    message,
                ))
            })
        }
        Err(error) => Err(error),
    };
    match result {
        Ok(value) => json(StatusCode::OK, value.to_string()),
        Err(error) => {
            let body = ErrorBody {
                error: error.message,
                hint: error.hint,
                details: error.details,
            };
            json(
                error.status,
                serde_json::to_string(&body).unwrap_or_default(),
            )
        }
    }
}

async fn read(body: Incoming) -> Result<Bytes, ControlError> {
    let collected = Limited::new(body, MAX_REQUEST_BYTES).collect();
    match tokio::time::timeout(BODY_TIME, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let message = format!("a request has at most {MAX_REQUEST_BYTES} bytes");
            Err(ControlError::new(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Ok(Err(error)) => Err(ControlError::bad_request(error.to_string())),
        Err(_) => {
            let message = "the request did not come in time";
            Err(ControlError::new(StatusCode::REQUEST_TIMEOUT, message))
        }
    }
}

fn json(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let content = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, content);
    response
}
