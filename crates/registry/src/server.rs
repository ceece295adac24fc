//! The HTTP side: files for everyone, two addresses that take something. Every resource that a
//! stranger could hold is bounded.

use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use governor::{DefaultKeyedRateLimiter, Quota};
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use renkei_federation::{
    MAX_ENVELOPE_BYTES,
    log::{MAX_BUNDLE_BYTES, MAX_NOTE_BYTES},
};
use renkei_runtime::{
    files::{self, Budget},
    http1::{self, Client, HttpLimits},
    shares::Network,
};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    folder::{CHECKPOINT, PENDING},
    log::{CosignError, Log, SubmitError},
    metrics::{Refusal, RegistryMetrics},
};

const LIMITS: HttpLimits = HttpLimits {
    connections: 128,
    by_address: true,
    head_time: Duration::from_secs(5),
    time: Duration::from_secs(60),
};
/// How often the log looks whether a checkpoint is due.
const TICK: Duration = Duration::from_millis(500);
/// What one address may hand in: a site says something a few times a minute.
const A_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
const AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
/// Addresses that have handed nothing in for a while are forgotten as often as this.
const FORGET: u32 = 120;

/// A registry that can be served. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    log: Mutex<Log>,
    folder: PathBuf,
    rate: DefaultKeyedRateLimiter<Network>,
    metrics: RegistryMetrics,
}

impl Registry {
    /// Serves this log, whose files are in `folder`, and counts what it refuses.
    pub fn new(log: Log, folder: &Path, metrics: RegistryMetrics) -> Self {
        let quota = Quota::per_second(A_SECOND).allow_burst(AT_ONCE);
        Self(Arc::new(Inner {
            log: Mutex::new(log),
            folder: folder.to_owned(),
            rate: DefaultKeyedRateLimiter::keyed(quota),
            metrics,
        }))
    }

    /// Answers until `stop`.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        let registry = self.clone();
        let handler = move |request| {
            let registry = registry.clone();
            async move { registry.answer(request).await }
        };
        let metrics = self.0.metrics.clone();
        let refused = move || metrics.refused(Refusal::Connection);
        tokio::select! {
            () = stop.cancelled() => {}
            () = http1::serve_counting(&listener, LIMITS, refused, handler) => {}
            () = self.tick() => {}
        }
    }

    async fn tick(&self) {
        for round in 1_u32.. {
            tokio::time::sleep(TICK).await;
            if let Err(error) = self.with_log(|log, now| log.tick(now)).await {
                tracing::error!(%error, "no checkpoint could be published");
            }
            if round.is_multiple_of(FORGET) {
                self.0.rate.retain_recent();
            }
        }
    }

    /// The log writes to disk, so it is worked on by a thread that may wait.
    async fn with_log<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Log, OffsetDateTime) -> T + Send + 'static,
    ) -> T {
        let registry = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut log = registry
                .0
                .log
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            work(&mut log, OffsetDateTime::now_utc())
        });
        match work.await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        match (request.method(), path.as_str()) {
            (&Method::POST, "statements" | "cosignatures") => {
                if !self.may_hand_in(&request) {
                    self.0.metrics.refused(Refusal::Rate);
                    let text = "too many at once from this address; try again in a few seconds";
                    return said(StatusCode::TOO_MANY_REQUESTS, text);
                }
                match path.as_str() {
                    "statements" => self.take_statement(request).await,
                    _ => self.take_cosignatures(request).await,
                }
            }
            (&Method::GET | &Method::HEAD, _) => self.file(path).await,
            _ => {
                let mut response = said(StatusCode::METHOD_NOT_ALLOWED, "GET, or POST /statements");
                let allow = HeaderValue::from_static("GET, HEAD, POST");
                response.headers_mut().insert(ALLOW, allow);
                response
            }
        }
    }

    fn may_hand_in(&self, request: &Request<Incoming>) -> bool {
        let client = request.extensions().get::<Client>();
        client.is_none_or(|Client(from)| self.0.rate.check_key(&Network::of(from.ip())).is_ok())
    }

    async fn take_statement(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(body) = body(request, MAX_ENVELOPE_BYTES).await else {
            return said(
                StatusCode::PAYLOAD_TOO_LARGE,
                "a statement has at most 65535 bytes",
            );
        };
        let taken = self.with_log(move |log, now| log.submit(&body, now)).await;
        match taken {
            Ok(placed) if placed.known => said(StatusCode::OK, "it is in the log already"),
            Ok(_) => said(StatusCode::ACCEPTED, "it will be in the next checkpoint"),
            Err(error) => {
                let status = match &error {
                    SubmitError::Envelope(_) => StatusCode::BAD_REQUEST,
                    SubmitError::NotAdmitted { .. } => StatusCode::FORBIDDEN,
                    SubmitError::Refused(_) => StatusCode::CONFLICT,
                    SubmitError::Busy => StatusCode::SERVICE_UNAVAILABLE,
                    SubmitError::Folder(_) => {
                        tracing::error!(%error, "a statement could not be kept");
                        return said(StatusCode::INTERNAL_SERVER_ERROR, "the registry's disk");
                    }
                };
                tracing::debug!(%error, "a statement was refused");
                said(status, &error.to_string())
            }
        }
    }

    async fn take_cosignatures(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let Some(body) = body(request, MAX_NOTE_BYTES).await else {
            return said(
                StatusCode::PAYLOAD_TOO_LARGE,
                "that is too long for a checkpoint",
            );
        };
        match self.with_log(move |log, now| log.cosign(&body, now)).await {
            Ok(()) => said(StatusCode::OK, "thank you"),
            Err(CosignError::Folder(error)) => {
                tracing::error!(%error, "a cosignature could not be kept");
                said(StatusCode::INTERNAL_SERVER_ERROR, "the registry's disk")
            }
            Err(error @ CosignError::Checkpoint(_)) => {
                said(StatusCode::BAD_REQUEST, &error.to_string())
            }
            Err(error) => said(StatusCode::CONFLICT, &error.to_string()),
        }
    }

    async fn file(&self, path: String) -> Response<Full<Bytes>> {
        let note = matches!(path.as_str(), CHECKPOINT | PENDING);
        if !note && !is_tile(&path) {
            return said(
                StatusCode::NOT_FOUND,
                "there are /checkpoint, /pending and /tile/",
            );
        }
        let file = self.0.folder.join(&path);
        let read = tokio::task::spawn_blocking(move || {
            files::read_for(Budget::Caller, &file, MAX_BUNDLE_BYTES)
        });
        let Ok(Ok(bytes)) = read.await else {
            return said(StatusCode::NOT_FOUND, "there is no such file");
        };
        let (kind, cache) = match note {
            true => ("text/plain; charset=utf-8", "no-cache"),
            false => (
                "application/octet-stream",
                "public, max-age=31536000, immutable",
            ),
        };
        let mut response = Response::new(Full::new(bytes.into()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
        response
    }
}

/// `tile/LEVEL/N[.p/W]` and nothing else, so that no path leads out of the folder.
fn is_tile(path: &str) -> bool {
    let plain = |part: &str| {
        let part = part.strip_prefix('x').unwrap_or(part);
        let part = part.strip_suffix(".p").unwrap_or(part);
        part == "entries"
            || (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
    };
    let mut parts = path.split('/');
    parts.next() == Some("tile") && path.len() < 100 && parts.all(plain)
}

async fn body(request: Request<Incoming>, most: usize) -> Option<Bytes> {
    let body = Limited::new(request.into_body(), most).collect().await;
    body.ok().map(http_body_util::Collected::to_bytes)
}

fn said(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    use renkei_federation::{Federation, KeySet, SigningKey, Witnesses};
    use time::Duration as Span;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::JoinSet,
    };

    async fn ask(address: std::net::SocketAddr, request: &[u8]) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        // The server may answer, and close, before it has read everything.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn served() -> (tempfile::TempDir, std::net::SocketAddr, RegistryMetrics) {
        let folder = tempfile::tempdir().unwrap();
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        let federation = Federation {
            origin: "federation.example/intercloud".to_owned(),
            log_key: key.public(),
            registrar: KeySet {
                keys: vec![],
                threshold: 1,
            },
            witnesses: Witnesses {
                quorum: 1,
                keys: [].into(),
            },
        };
        let now = OffsetDateTime::now_utc();
        let log = Log::open(folder.path(), Arc::new(federation), key, Span::SECOND, now);
        let metrics = RegistryMetrics::default();
        let registry = Registry::new(log.unwrap(), folder.path(), metrics.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { registry.serve(listener, CancellationToken::new()).await });
        (folder, address, metrics)
    }

    fn post(body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head =
            format!("POST /statements HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn files_are_served_and_nothing_else_of_the_folder_or_the_disk() {
        let (_folder, address, _) = served().await;
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes();
        let pending = ask(address, &get("/pending")).await;
        assert!(
            pending.contains("200 OK") && pending.contains("federation.example"),
            "{pending}"
        );
        for closed in [
            "/checkpoint",
            "/.lock",
            "/tile/../.lock",
            "/tile/0/%2e%2e/x",
            "/",
        ] {
            let answer = ask(address, &get(closed)).await;
            assert!(answer.contains("404"), "{closed}: {answer}");
        }
        let put = ask(
            address,
            b"PUT /pending HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        );
        assert!(put.await.contains("405"));
    }

    #[tokio::test]
    async fn what_is_handed_in_is_bounded_in_size_and_number() {
        let (_folder, address, metrics) = served().await;
        let rubbish = ask(address, &post(b"{}")).await;
        assert!(rubbish.contains("400"), "{rubbish}");
        let long = ask(address, &post(&vec![b'x'; 100_000])).await;
        assert!(long.contains("413"), "{long}");
        // A busy machine may need more than the first hundred to be faster than the rate.
        assert_eq!(metrics.count(Refusal::Rate), 0);
        let mut refused = false;
        for _ in 0..50 {
            let asking = |_| async move { ask(address, &post(b"{}")).await };
            let asked: JoinSet<String> = (0..200).map(asking).collect();
            let answers = asked.join_all().await;
            refused |= answers.iter().any(|answer| answer.contains("429"));
            if refused {
                break;
            }
        }
        assert!(refused, "more than the rate allows");
        assert!(metrics.count(Refusal::Rate) > 0);
        let pending = ask(address, b"GET /pending HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(pending.contains("200 OK"), "reading still works");
    }

    #[test]
    fn addresses_of_one_network_share_their_rate() {
        let of = |text: &str| Network::of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn only_paths_of_tiles_lead_to_files() {
        for good in [
            "tile/0/000",
            "tile/entries/x001/x234/067",
            "tile/entries/000.p/5",
        ] {
            assert!(is_tile(good), "{good}");
        }
        for bad in [
            "",
            "tile",
            "tile/",
            "tile/../log.key",
            "tile//0",
            ".lock",
            "tile/0/.p/../x",
        ] {
            assert!(bad == "tile" || !is_tile(bad), "{bad}");
        }
    }
}
