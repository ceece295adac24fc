//! The accept loop that small HTTP servers share: HTTP/1, one request a connection, a bounded
//! number of connections, slow clients cut.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};

use crate::{
    accept::accept,
    shares::{Network, Pool},
};

/// So many times the connections that are served may be accepted and wait.
const WAITING: usize = 8;

/// How long, and how many bytes of, a request that was answered early is read.
const LINGER_TIME: Duration = Duration::from_secs(5);
const LINGER_BYTES: u64 = 16 << 20;

/// What a stranger can hold of the server.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections served at once; more wait.
    pub connections: usize,
    /// Whether an address has a share of them ([`crate::shares`]), and of those that wait. More of
    /// its connections are closed.
    pub by_address: bool,
    /// Time of a client to send the whole head of its request.
    pub head_time: Duration,
    /// Time of a whole connection.
    pub time: Duration,
}

/// Where a request came from; an extension of requests that came over TCP.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub SocketAddr);

/// A listener of either kind.
pub trait Listen: Send {
    /// The type of an accepted connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The next connection, and where it is from.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<Client>)>> + Send;
}

impl Listen for TcpListener {
    type Stream = TcpStream;
    async fn next(&self) -> io::Result<(TcpStream, Option<Client>)> {
        let (stream, from) = self.accept().await?;
        Ok((stream, Some(Client(from))))
    }
}

impl Listen for UnixListener {
    type Stream = UnixStream;
    async fn next(&self) -> io::Result<(UnixStream, Option<Client>)> {
        self.accept().await.map(|(stream, _)| (stream, None))
    }
}

/// Serves until dropped; what is open then is cut.
pub async fn serve<L, H, F>(listener: &L, limits: HttpLimits, handler: H)
where
    L: Listen,
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    serve_counting(listener, limits, || (), handler).await;
}

/// The same; `refused` is called for each connection that is refused for its address.
pub async fn serve_counting<L, H, F>(
    listener: &L,
    limits: HttpLimits,
    refused: impl Fn(),
    handler: H,
) where
    L: Listen,
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let mut open = JoinSet::new();
    let places = Pool::new(limits.connections);
    let most_waiting = limits.connections.saturating_mul(WAITING);
    let queue = Pool::new(most_waiting);
    loop {
        tokio::select! {
            Some(_) = open.join_next(), if !open.is_empty() => {}
            (stream, client) = accept("an HTTP server", || listener.next()),
                if open.len() < most_waiting =>
            {
                let address = client.filter(|_| limits.by_address);
                let address = address.map(|Client(from)| Network::of(from.ip()));
                let holders: Vec<Network> = address.into_iter().collect();
                let Ok(waiting) = queue.try_take(holders.clone()) else {
                    refused();
                    tracing::warn!(reason = "address_limit", ?client, "a connection is refused");
                    continue;
                };
                let served = connection(stream, client, limits, handler.clone());
                let places = places.clone();
                open.spawn(async move {
                    let place = places.take(holders).await;
                    served.await;
                    drop((place, waiting));
                });
            }
        }
    }
}

async fn connection<S, H, F>(stream: S, client: Option<Client>, limits: HttpLimits, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(client) = client {
            request.extensions_mut().insert(client);
        }
        let response = handler(request);
        async { Ok::<_, std::convert::Infallible>(response.await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let served = async {
        let parts = serving.without_shutdown().await?;
        linger(parts.io.into_inner()).await;
        Ok::<_, hyper::Error>(())
    };
    match tokio::time::timeout(limits.time, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a request was not served"),
        Err(_) => tracing::debug!("a connection took too long and was cut"),
    }
}

/// Ends the answer, and reads what the client still sends. To close before would reset the
/// connection, and a client that sends a long request would lose an early answer.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let drained = async {
        stream.shutdown().await?;
        let rest = (&mut stream).take(LINGER_BYTES);
        tokio::io::copy(&mut { rest }, &mut tokio::io::sink()).await
    };
    // The answer is sent; what fails now is the client's.
    let _ = tokio::time::timeout(LINGER_TIME, drained).await;
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;

    async fn served(limits: HttpLimits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let handler = |_| async { Response::new(Full::new(Bytes::from_static(b"hello"))) };
        tokio::spawn(async move { serve(&listener, limits, handler).await });
        address
    }

    #[tokio::test]
    async fn more_idle_connections_than_the_limit_give_way_in_time() {
        let limits = HttpLimits {
            connections: 2,
            by_address: false,
            head_time: Duration::from_millis(50),
            time: Duration::from_secs(30),
        };
        let address = served(limits).await;
        let mut idle = Vec::new();
        for _ in 0..6 {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("hello"), "{response}");
    }

    #[tokio::test]
    async fn an_early_answer_reaches_a_client_that_is_still_sending() {
        let limits = HttpLimits {
            connections: 8,
            by_address: false,
            head_time: Duration::from_secs(60),
            time: Duration::from_secs(60),
        };
        let address = served(limits).await;
        let body = vec![b'x'; 8 << 20];
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let head = format!(
                "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            assert!(response.ends_with("hello"), "{response}");
        }
    }

    #[tokio::test]
    async fn one_address_does_not_keep_others_out() {
        let limits = HttpLimits {
            connections: 8,
            by_address: true,
            head_time: Duration::from_secs(600),
            time: Duration::from_secs(600),
        };
        let address = served(limits).await;
        let mut idle = Vec::new();
        for _ in 0..8 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 77], 0).into()).unwrap();
            // One that is refused may be reset before it is connected.
            idle.extend(socket.connect(address).await.ok());
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        assert!(response.ends_with("hello"), "{response}");
    }

    #[tokio::test]
    async fn connections_above_the_share_of_an_address_are_counted() {
        let limits = HttpLimits {
            connections: 1,
            by_address: true,
            head_time: Duration::from_secs(600),
            time: Duration::from_secs(600),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let refused = Arc::new(AtomicUsize::new(0));
        let counter = refused.clone();
        let count = move || {
            counter.fetch_add(1, Ordering::Relaxed);
        };
        let handler = |_| async { Response::new(Full::new(Bytes::new())) };
        tokio::spawn(async move { serve_counting(&listener, limits, count, handler).await });
        let mut silent = Vec::new();
        for _ in 0..WAITING {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        // Half of those that may wait are the address's share; the rest are closed.
        let mut last = silent.pop().unwrap();
        let _ = last.read(&mut [0]).await;
        assert_eq!(refused.load(Ordering::Relaxed), WAITING / 2);
    }

    #[tokio::test]
    async fn a_head_without_end_is_cut() {
        let limits = HttpLimits {
            connections: 8,
            by_address: false,
            head_time: Duration::from_secs(30),
            time: Duration::from_secs(30),
        };
        let mut stream = TcpStream::connect(served(limits).await).await.unwrap();
        let line = [b'x'; 4096];
        let mut sent = 0;
        while sent < 16 * 1024 * 1024 && stream.write_all(&line).await.is_ok() {
            sent += line.len();
        }
        assert!(sent < 16 * 1024 * 1024, "the server read it all");
    }
}
