//! A client of any agent's Workload API, Renkei's or another (SPIRE's), over a unix socket.
//!
//! [`watch()`] follows an agent for as long as it is asked to: it connects again after a failure
//! and keeps the last good state meanwhile, as far as that has not ended. What an answer does not
//! hold any more is not used any more; an agent that refuses with PermissionDenied holds nothing.
//! [`fetch`] asks once. What an agent sends is checked like anything from outside.

mod decode;
mod endpoint;
mod published;
mod report;

use std::{path::Path, sync::Arc, time::Duration};

use futures_util::FutureExt;
use hyper_util::rt::TokioIo;
use renkei_api::{
    status::SourceStatus,
    workload::{
        X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient,
    },
};
use renkei_runtime::{backoff::Backoff, files, supervise::Supervisor};
use renkei_spiffe::{BundleSet, Identities, X509Svid};
use rustls::crypto::CryptoProvider;
use tokio::{net::UnixStream, sync::watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status, Streaming, metadata::MetadataValue, transport::Endpoint};

pub use decode::DecodeError;
pub use endpoint::{EndpointError, socket_path};

use published::Published;

/// The largest message that is read: thousands of bundles.
const MAX_MESSAGE: usize = 16 << 20;
/// How long to wait for a connection, and for the first message of [`fetch`].
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait before the agent is asked again, with its jitter less than 2 s: it is a socket
/// of this machine, and a workload without identities carries nothing.
const LONGEST_WAIT: Duration = Duration::from_millis(1_700);
/// The first wait.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// How often a silent agent is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why an agent gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The endpoint is not a unix socket.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// No process answers at the socket.
    #[error("no agent answers at {socket}: {reason}")]
    Unreachable {
        /// The path of the socket.
        socket: String,
        /// What the system says.
        reason: String,
    },
    /// The agent refuses, or breaks off.
    #[error("the agent answers {}: {}", code_name(.0), .0.message())]
    Status(Box<Status>),
    /// The agent ended the stream.
    #[error("the agent ended the stream")]
    Ended,
    /// The agent did not answer in time.
    #[error("the agent did not answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// The message does not hold what it should.
    #[error("the agent sent a bad message: {0}")]
    Decode(#[from] DecodeError),
}

impl FetchError {
    /// Whether the agent has said that there is no identity for this process.
    fn is_denial(&self) -> bool {
        matches!(self, Self::Status(status) if status.code() == Code::PermissionDenied)
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Endpoint(_) => "a Workload API is a unix socket on this machine",
            Self::Unreachable { .. } | Self::Timeout | Self::Ended => {
                "is the site running? `renkei status` shows where its Workload API is"
            }
            Self::Status(status) if status.code() == Code::PermissionDenied => {
                "the process must match the selectors of a workload in the site file; the site's \
                 log says what each workload asks for"
            }
            Self::Status(status) if status.code() == Code::Unavailable => {
                "the site has no SVID for it yet: see `renkei status`, and try again"
            }
            Self::Status(status) if status.code() == Code::ResourceExhausted => {
                "too many connections or streams are open at once; a Renkei site raises \
                 `workload_api` in its file"
            }
            Self::Status(_) | Self::Decode(_) => {
                "is this the socket of a Workload API? `renkei status` shows a site's"
            }
        }
    }
}

fn code_name(status: &Status) -> String {
    format!("{:?}", status.code())
}

/// One complete message of an agent.
#[derive(Debug, Clone)]
pub struct Update {
    /// SVIDs with their hints, in the agent's order: the first is the default.
    pub svids: Vec<(String, Arc<X509Svid>)>,
    /// The SVIDs' own bundles and the federated ones.
    pub bundles: Arc<BundleSet>,
}

impl Update {
    /// The same by ID. Of several SVIDs of one ID the first counts.
    pub fn identities(&self) -> Identities {
        let mut svids = std::collections::BTreeMap::new();
        for (_, svid) in &self.svids {
            svids
                .entry(svid.id().clone())
                .or_insert_with(|| Arc::clone(svid));
        }
        Identities {
            svids,
            bundles: Arc::clone(&self.bundles),
        }
    }
}

/// Identities that follow an agent.
#[derive(Debug, Clone)]
pub struct AgentIdentities {
    /// The socket, as it was given.
    pub socket: String,
    /// What of the last good state has not ended; empty before the first message.
    pub identities: watch::Receiver<Arc<Identities>>,
    /// How it is doing.
    pub status: watch::Receiver<SourceStatus>,
}

/// Follows the agent at `endpoint` (`unix:///PATH` or a path) until `stop`. `provider` loads the
/// keys, so that one which is not its certificate's is refused with its message.
pub fn watch(
    endpoint: &str,
    provider: Arc<CryptoProvider>,
    (tasks, stop): (Supervisor, CancellationToken),
) -> Result<AgentIdentities, EndpointError> {
    let socket = socket_path(endpoint)?;
    let (identities, identities_seen) = watch::channel(Arc::default());
    let (status, status_seen) = watch::channel(SourceStatus::default());
    let over = stop.clone();
    tasks.keep(
        "identities",
        move || over.is_cancelled(),
        move || {
            let (socket, provider) = (socket.clone(), provider.clone());
            let (identities, status) = (identities.clone(), status.clone());
            let following =
                async move { keep_following(&socket, &provider, identities, &status).await };
            stop.clone().run_until_cancelled_owned(following).map(drop)
        },
    );
    Ok(AgentIdentities {
        socket: endpoint.to_owned(),
        identities: identities_seen,
        status: status_seen,
    })
}

/// Asks the agent at `endpoint` once.
pub async fn fetch(endpoint: &str, provider: &CryptoProvider) -> Result<Update, FetchError> {
    let socket = socket_path(endpoint)?;
    let asked = async {
        let mut stream = subscribe(&socket).await?;
        next(&mut stream, provider).await
    };
    tokio::time::timeout(TIMEOUT, asked)
        .await
        .unwrap_or(Err(FetchError::Timeout))
}

/// Opens one stream after the other, and looks at the clock meanwhile.
async fn keep_following(
    socket: &Path,
    provider: &CryptoProvider,
    identities: watch::Sender<Arc<Identities>>,
    status: &watch::Sender<SourceStatus>,
) {
    let published = Published::new(identities);
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let following = async {
        loop {
            let Err(error) = follow(socket, provider, &published, status, &mut backoff).await;
            if error.is_denial() {
                // Of nothing: neither identities nor bundles (SPIFFE_Workload_API 5.2.1).
                published.receive(Identities::default());
            }
            let wait = backoff.failed();
            let text = error.to_string();
            // The same failure again and again is one line.
            if status.borrow().last_error.as_ref() != Some(&text) {
                tracing::warn!(
                    error = text,
                    "no identities from the Workload API; asking again"
                );
            }
            status.send_modify(|status| {
                status.connected = false;
                status.last_error = Some(text);
            });
            tokio::time::sleep(wait).await;
        }
    };
    tokio::select! {
        () = following => {}
        _ = published.follow_the_clock() => {}
    }
}

/// Publishes what one stream brings, until it fails.
async fn follow(
    socket: &Path,
    provider: &CryptoProvider,
    published: &Published,
    status: &watch::Sender<SourceStatus>,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, FetchError> {
    let mut stream = subscribe(socket).await?;
    loop {
        let message = message(&mut stream).await?;
        let named = message.svids.iter().map(|svid| svid.spiffe_id.clone());
        let named = named.collect();
        let update = decode::update(message, provider).inspect_err(|_| published.retain(&named))?;
        backoff.succeeded();
        published.receive(update.identities());
        status.send_modify(|status| {
            status.connected = true;
            status.updates += 1;
            status.last_error = None;
        });
    }
}

async fn subscribe(socket: &Path) -> Result<Streaming<X509svidResponse>, FetchError> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let stream = files::connect(&path)?;
            UnixStream::from_std(stream).map(TokioIo::new)
        }
    });
    // The authority has no meaning on a unix socket.
    let channel = Endpoint::from_static("http://localhost")
        .connect_timeout(TIMEOUT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| FetchError::Unreachable {
            socket: socket.display().to_string(),
            reason: innermost(&error),
        })?;
    let mut request = Request::new(X509svidRequest {});
    request
        .metadata_mut()
        .insert("workload.spiffe.io", MetadataValue::from_static("true"));
    let mut client = SpiffeWorkloadApiClient::new(channel).max_decoding_message_size(MAX_MESSAGE);
    client
        .fetch_x509svid(request)
        .await
        .map(tonic::Response::into_inner)
        .map_err(refused)
}

async fn next(
    stream: &mut Streaming<X509svidResponse>,
    provider: &CryptoProvider,
) -> Result<Update, FetchError> {
    Ok(decode::update(message(stream).await?, provider)?)
}

async fn message(stream: &mut Streaming<X509svidResponse>) -> Result<X509svidResponse, FetchError> {
    let message = stream.message().await.map_err(refused)?;
    message.ok_or(FetchError::Ended)
}

fn refused(status: Status) -> FetchError {
    FetchError::Status(Box::new(status))
}

/// The transport's own words are only "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests;
