//! The HTTP side of a bundle endpoint: one document, whatever the path, to every reader
//! (SPIFFE_Federation 5.1), and also the newest checkpoint of the federation's log that this
//! site has seen, and the record by which peers know the site. Every resource that a stranger could
//! hold is bounded.

use std::{
    convert::Infallible,
    pin::pin,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE},
};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, watch},
    time::timeout,
};

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTION_TIME: Duration = Duration::from_secs(30);
const CLOSING_TIME: Duration = Duration::from_secs(2);
const MAX_REQUESTS: u32 = 100;
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_STREAMS: u32 = 16;

/// The document to serve, always the newest.
pub(crate) type Document = watch::Receiver<Bytes>;

/// Where members ask one another which log they see.
pub(crate) const CHECKPOINT_PATH: &str = "/federation/checkpoint";
/// Where peers read the chain of site roots and the newest statement of a site.
pub(crate) const RECORD_PATH: &str = "/federation/site";

/// What the gateway serves besides the bundle document; empty while there is nothing.
#[derive(Debug, Clone)]
pub(crate) struct FederationDocuments {
    /// The newest checkpoint of a federation's log.
    pub(crate) checkpoint: Document,
    /// The record of this site.
    pub(crate) record: Document,
}

/// Serves one connection to its end, HTTP/1.1 or HTTP/2.
pub(super) async fn serve<S>(stream: S, document: Document, federation: Option<FederationDocuments>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (served, enough) = (AtomicU32::new(0), Notify::new());
    let service = service_fn(|request: Request<Incoming>| {
        if served.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_REQUESTS {
            enough.notify_one();
        }
        let response = respond(&request, &document, federation.as_ref());
        async move { Ok::<_, Infallible>(response) }
    });
    let builder = builder();
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, "bundle endpoint: connection ended");
            }
            return;
        }
        () = enough.notified() => {}
        () = tokio::time::sleep(CONNECTION_TIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CLOSING_TIME, connection).await;
}

fn respond(
    request: &Request<Incoming>,
    document: &Document,
    federation: Option<&FederationDocuments>,
) -> Response<Full<Bytes>> {
    let is_there = |document: &&Document| !document.borrow().is_empty();
    let (method, path) = (request.method(), request.uri().path());
    match federation {
        Some(federation) if path == RECORD_PATH => {
            match Some(&federation.record).filter(is_there) {
                Some(record) => answer(method, record, "application/jsonl"),
                None => {
                    let mut response = Response::new(Full::from("this site has no identity yet\n"));
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    response
                }
            }
        }
        Some(federation) if path == CHECKPOINT_PATH && is_there(&&federation.checkpoint) => {
            answer(method, &federation.checkpoint, "text/plain; charset=utf-8")
        }
        _ => answer(method, document, "application/json"),
    }
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .keep_alive_interval(None);
    builder
}

fn answer(method: &Method, document: &Document, kind: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    if method != Method::GET && method != Method::HEAD {
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let document = document.borrow().clone();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(document.len()));
    // Left out here: hyper would leave it out of HTTP/1 only.
    if method != Method::HEAD {
        *response.body_mut() = Full::new(document);
    }
    response
}
