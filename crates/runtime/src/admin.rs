//! Metrics, liveness and readiness over HTTP on a loopback address.
//!
//! | path | answer |
//! | --- | --- |
//! | `/metrics` | the metrics in the OpenMetrics text format |
//! | `/livez` | 200 as long as the process runs its tasks |
//! | `/readyz` | 200 when every condition holds, otherwise 503 and a line for each that does not |
//!
//! Nothing here changes anything; commands go through [`crate::control`].

use std::{io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::{
    http1::{self, HttpLimits},
    readiness::Readiness,
    telemetry::Metrics,
};

/// The type of the text that [`Metrics::encode`] makes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// The endpoint, bound and not yet served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// Why the endpoint cannot be opened.
#[derive(Debug, Error)]
pub enum BindError {
    /// The address is reachable from other machines.
    #[error("the admin address {0} is not a loopback address")]
    NotLoopback(SocketAddr),
    /// The system refuses the address.
    #[error("the admin address {address} cannot be opened: {source}")]
    Io {
        /// The address that was to be bound.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

impl BindError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotLoopback(_) => {
                "use 127.0.0.1 or [::1]: every program that reaches this port can read the \
                 site's metrics"
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                "another process listens there: choose another port, or stop it"
            }
            Self::Io { .. } => "choose a loopback address of this machine and a free port",
        }
    }
}

impl Server {
    /// Opens the endpoint at a loopback address.
    ///
    /// # Errors
    /// When the address is not a loopback address or cannot be opened.
    pub async fn bind(address: SocketAddr) -> Result<Self, BindError> {
        if !address.ip().to_canonical().is_loopback() {
            return Err(BindError::NotLoopback(address));
        }
        let failed = |source| BindError::Io { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// The address with the port that the system chose for port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until dropped; what is open then is cut.
    pub async fn serve(&self, metrics: Metrics, readiness: Readiness) {
        let limits = HttpLimits {
            connections: 64,
            by_address: false,
            head_time: Duration::from_secs(5),
            time: Duration::from_secs(30),
        };
        let handler = move |request: Request<hyper::body::Incoming>| {
            let answer = answer(request.method(), request.uri().path(), &metrics, &readiness);
            async { answer }
        };
        http1::serve(&self.listener, limits, handler).await;
    }
}

fn answer(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Response<Full<Bytes>> {
    let (status, content, text) = match path {
        "/metrics" | "/livez" | "/readyz" if method != Method::GET && method != Method::HEAD => (
            StatusCode::METHOD_NOT_ALLOWED,
            PLAIN,
            "only GET is served here\n".to_owned(),
        ),
        "/metrics" => match metrics.encode() {
            Ok(text) => (StatusCode::OK, OPENMETRICS, text),
            Err(error) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                PLAIN,
                format!("{error}\n"),
            ),
        },
        "/livez" => (StatusCode::OK, PLAIN, "ok\n".to_owned()),
        "/readyz" => {
            let (status, text) = ready(readiness);
            (status, PLAIN, text)
        }
        _ => {
            let text = "not found; there are /metrics, /livez and /readyz\n".to_owned();
            (StatusCode::NOT_FOUND, PLAIN, text)
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content),
    );
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

fn ready(readiness: &Readiness) -> (StatusCode, String) {
    let now = readiness.snapshot();
    if now.ready {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let mut text = String::from("not ready\n");
    for (name, reason) in now.missing() {
        text.push_str(&format!("{name}: {}\n", reason.replace('\n', " ")));
    }
    (StatusCode::SERVICE_UNAVAILABLE, text)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    async fn served() -> (SocketAddr, Readiness) {
        let readiness = Readiness::new();
        let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = server.address();
        let conditions = readiness.clone();
        tokio::spawn(async move { server.serve(Metrics::new("1.2.3"), conditions).await });
        (address, readiness)
    }

    async fn ask(address: SocketAddr, request_line: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request_line} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn readiness_is_503_with_reasons_until_every_condition_holds() {
        let (address, readiness) = served().await;
        let condition = readiness.condition("gateway");
        condition.set_not_ready("no certificate yet");
        let response = ask(address, "GET /readyz").await;
        assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
        assert!(
            response.ends_with("not ready\ngateway: no certificate yet\n"),
            "{response}"
        );
        condition.set_ready();
        let response = ask(address, "GET /readyz").await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        assert!(
            ask(address, "GET /livez")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
    }

    #[tokio::test]
    async fn metrics_are_served_as_openmetrics() {
        let (address, _) = served().await;
        let response = ask(address, "GET /metrics").await;
        assert!(response.contains(OPENMETRICS), "{response}");
        assert!(
            response.contains("renkei_build_info{version=\"1.2.3\"} 1"),
            "{response}"
        );
        assert!(response.ends_with("# EOF\n"), "{response}");
        let head = ask(address, "HEAD /metrics").await;
        assert!(head.ends_with("\r\n\r\n"), "a HEAD has no body: {head}");
    }

    #[tokio::test]
    async fn other_paths_and_methods_are_refused() {
        let (address, _) = served().await;
        assert!(ask(address, "GET /").await.starts_with("HTTP/1.1 404 "));
        assert!(
            ask(address, "GET /metrics/")
                .await
                .starts_with("HTTP/1.1 404 ")
        );
        assert!(
            ask(address, "POST /livez")
                .await
                .starts_with("HTTP/1.1 405 ")
        );
        assert!(ask(address, "nonsense").await.starts_with("HTTP/1.1 400 "));
    }

    #[tokio::test]
    async fn idle_connections_do_not_keep_others_out() {
        let (address, _) = served().await;
        let mut idle = Vec::new();
        for _ in 0..40 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let response = ask(address, "GET /livez").await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }

    #[tokio::test]
    async fn addresses_that_others_reach_are_refused() {
        for address in [
            "0.0.0.0:0",
            "[::]:0",
            "192.0.2.1:9000",
            "[::ffff:192.0.2.1]:9000",
        ] {
            let error = Server::bind(address.parse().unwrap()).await.unwrap_err();
            assert!(
                matches!(error, BindError::NotLoopback(_)),
                "{address}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let (address, _) = served().await;
        let error = Server::bind(address).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(error.hint().contains("another process"), "{}", error.hint());
    }
}
