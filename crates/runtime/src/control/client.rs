//! The command's side.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixStream;

use super::{ErrorBody, MAX_RESPONSE_BYTES};
use crate::files;

/// How long a command may take.
const CALL_TIME: Duration = Duration::from_secs(60);

/// The way to the process that holds a control socket; each call opens a connection.
#[derive(Debug, Clone)]
pub struct Client {
    path: PathBuf,
}

/// Why a call brought no result.
#[derive(Debug, Error)]
pub enum CallError {
    /// No process holds the socket.
    #[error("no Renkei is running with this state folder: no process listens on {}", path.display())]
    NotRunning {
        /// The path of the control socket.
        path: PathBuf,
    },
    /// The socket belongs to another user.
    #[error("the control socket {} belongs to another user", path.display())]
    NotPermitted {
        /// The path of the control socket.
        path: PathBuf,
    },
    /// The process refused the command.
    #[error("{message}")]
    Refused {
        /// The HTTP status of the refusal.
        status: StatusCode,
        /// One sentence for a person.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// More for programs; null when there is no more.
        details: Value,
    },
    /// The connection failed or ended early.
    #[error("the connection to {} failed: {source}", path.display())]
    Io {
        /// The path of the control socket.
        path: PathBuf,
        /// The error of the connection.
        source: io::Error,
    },
    /// The process did not answer in time.
    #[error("the process at {} did not answer in {} s", path.display(), CALL_TIME.as_secs())]
    Timeout {
        /// The path of the control socket.
        path: PathBuf,
    },
    /// The answer is not what a Renkei sends.
    #[error("the process at {} sent an answer that makes no sense: {reason}", path.display())]
    BadAnswer {
        /// The path of the control socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl CallError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotRunning { .. } => {
                "start it with `renkei up site.yaml`, or name its folder with `--state`"
            }
            Self::NotPermitted { .. } => "run the command as the user who runs Renkei",
            Self::Refused { hint, .. } => return hint.clone(),
            Self::Io { .. } | Self::Timeout { .. } => "see the log of the running process",
            Self::BadAnswer { .. } => "check that both are the same version of Renkei",
        };
        Some(hint.to_owned())
    }
}

impl Client {
    /// For the socket at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path of the control socket.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks for something.
    ///
    /// # Errors
    /// When no process listens, or it refuses, or the connection fails.
    pub async fn get(&self, path: &str) -> Result<Value, CallError> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    /// Sends a command with a JSON body, and returns the answer.
    ///
    /// # Errors
    /// When no process listens, or it refuses, or the connection fails.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        self.call(Method::POST, path, Bytes::from(body.to_string()))
            .await
    }

    /// Sends a request, and returns the answer.
    ///
    /// # Errors
    /// When no process listens, or it refuses, or the connection fails.
    pub async fn call(&self, method: Method, path: &str, body: Bytes) -> Result<Value, CallError> {
        let answer = tokio::time::timeout(CALL_TIME, self.exchange(method, path, body)).await;
        let (status, body) = answer.map_err(|_| CallError::Timeout {
            path: self.path.clone(),
        })??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.bad_answer(error));
        }
        let body: ErrorBody = serde_json::from_slice(&body).map_err(|_| self.bad_answer(status))?;
        let ErrorBody {
            error: message,
            hint,
            details,
        } = body;
        Err(CallError::Refused {
            status,
            message,
            hint,
            details,
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), CallError> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "renkei")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| self.io(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = files::connect(&self.path)
            .and_then(UnixStream::from_std)
            .map_err(|error| self.connect(error))?;
        let broken = |error: hyper::Error| self.io(io::Error::other(error));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let (_, response) = tokio::join!(connection, async move {
            let response = sender.send_request(request).await.map_err(broken)?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect();
            let body = body.await.map_err(|error| self.bad_answer(error))?;
            Ok((status, body.to_bytes()))
        },);
        response
    }

    fn connect(&self, error: io::Error) -> CallError {
        let path = self.path.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                CallError::NotRunning { path }
            }
            io::ErrorKind::PermissionDenied => CallError::NotPermitted { path },
            _ => self.io(error),
        }
    }

    fn io(&self, source: io::Error) -> CallError {
        CallError::Io {
            path: self.path.clone(),
            source,
        }
    }

    fn bad_answer(&self, reason: impl ToString) -> CallError {
        CallError::BadAnswer {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }
}
