//! The process's side: the socket, who holds it, and the answers.

#![cfg_attr(
    not(test),
    expect(
        clippy::disallowed_methods,
        reason = "on threads that may wait for a file"
    )
)]

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    future::Future,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use rustix::{
    fs::{FlockOperation, Mode, fchmod, flock},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with},
};
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixListener;

use super::{ErrorBody, MAX_REQUEST_BYTES};
use crate::{
    files,
    http1::{self, HttpLimits},
    state_folder::{StateFolder, StateFolderError},
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
    /// The HTTP status.
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
    /// Another living process holds it.
    #[error("Renkei is already running with the control socket {}", path.display())]
    AlreadyRunning {
        /// The path of the control socket.
        path: PathBuf,
    },
    /// Something else has its name.
    #[error("{} is not a socket, so it is left alone", path.display())]
    NotASocket {
        /// The path that is not a socket.
        path: PathBuf,
    },
    /// The folder it lies in is not private.
    #[error(transparent)]
    Folder(#[from] StateFolderError),
    /// The file that tells whether another process serves the socket cannot be locked.
    #[error("the lock of the control socket, {}, cannot be used: {source}", path.display())]
    Lock {
        /// The lock.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system refuses.
    #[error("the control socket {} cannot be opened: {source}", path.display())]
    Io {
        /// The path of the control socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl BindError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::AlreadyRunning { .. } => {
                "stop that process, or choose another state folder".to_owned()
            }
            Self::NotASocket { path } | Self::Lock { path, .. } => {
                format!("move {} away", path.display())
            }
            Self::Folder(error) => error.hint(),
            Self::Io { .. } => "the path of a unix socket has at most 107 bytes".to_owned(),
        }
    }
}

/// The socket, held by this process until dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// Locked while the server lives; the system frees it however the process ends.
    _lock: File,
}

impl Server {
    /// Opens the socket (mode 0600, in a folder of mode 0700 made where it is missing), replacing
    /// one that a dead process left. Within a tokio runtime.
    ///
    /// # Errors
    /// When a living process holds it, or the folder is not private, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        StateFolder::open(folder)?;
        let failed = |source| BindError::Io {
            path: path.to_owned(),
            source,
        };
        let lock = lock(path)?;
        remove_stale(path)?;
        let listener = listen_private(path).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Answers until dropped. A command that has begun is finished even if its client goes away.
    pub async fn serve(&self, router: Router) {
        let limits = HttpLimits {
            connections: 64,
            head_time: Duration::from_secs(5),
            time: Duration::from_secs(300),
        };
        let handler = move |request| answer(router.clone(), request);
        http1::serve(&self.listener, limits, handler).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The lock is still held, so the socket is ours.
        let path = self.path.clone();
        let _ = files::run(&self.path, move || fs::remove_file(path));
    }
}

/// The lock is the judge of who lives: a socket file alone outlives its process.
fn lock(path: &Path) -> Result<File, BindError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".lock");
    let lock = path.with_file_name(name);
    let failed = |source| BindError::Lock {
        path: lock.clone(),
        source,
    };
    let opening = lock.clone();
    let opened = files::run(&lock, move || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        files::open_with(&mut options, &opening)
    });
    let file = opened.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(BindError::AlreadyRunning {
            path: path.to_owned(),
        }),
        Err(error) => Err(failed(error.into())),
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    use std::os::unix::fs::FileTypeExt;
    let owned = path.to_owned();
    let removed = files::run(path, move || match fs::symlink_metadata(&owned) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(&owned).map(|()| true),
        Ok(_) => Ok(false),
        Err(_) => Ok(true),
    });
    let path = path.to_owned();
    match removed {
        Ok(true) => Ok(()),
        Ok(false) => Err(BindError::NotASocket { path }),
        Err(source) => Err(BindError::Io { path, source }),
    }
}

/// The mode is set before the name exists, so the socket is never open to others.
fn listen_private(path: &Path) -> io::Result<UnixListener> {
    let owned = path.to_owned();
    let socket = files::run(path, move || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        bind(&socket, &SocketAddrUnix::new(&owned)?)?;
        listen(&socket, 64)?;
        Ok(socket)
    })?;
    UnixListener::from_std(socket.into())
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
