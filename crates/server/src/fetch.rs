//! One bounded exchange of HTTP with an endpoint that a file of this site names, over TLS or, for
//! what is signed anyway, without. No redirects are followed.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use renkei_site::BundleWay;
use renkei_spiffe::MAX_DOCUMENT_BYTES;
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use url::{Host, Url};

const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// What is read of an answer that is not a success: one sentence.
const MAX_REASON: usize = 4 * 1024;
const AGENT: &str = concat!("renkei/", env!("CARGO_PKG_VERSION"));

/// Why an exchange failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL has no host that TLS could ask for.
    #[error("the URL {0} names no host")]
    NoHost(Url),
    /// The host was not reached.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Host and port that were dialled.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS failed, for example by an untrusted certificate.
    #[error("the TLS handshake with {host} failed: {source}{hint}", hint = name_hint(source))]
    Handshake {
        /// Host and port that were dialled.
        host: String,
        /// What TLS or the system says.
        source: io::Error,
    },
    /// Not the whole document in time.
    #[error("no complete answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Not HTTP, or the connection broke.
    #[error("the HTTP exchange failed: {0}")]
    Http(#[from] hyper::Error),
    /// Any other status than 200, redirects included.
    #[error("the endpoint answered {0}{hint}", hint = redirect_hint(*.0))]
    Status(StatusCode),
    /// More than such a document may have.
    #[error("the document is longer than {0} bytes")]
    TooLong(usize),
}

impl FetchError {
    /// The failure of a handshake, whose cause the verifier may know better.
    pub(crate) fn handshake(&self) -> Option<&io::Error> {
        match self {
            Self::Handshake { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What the peer's alert means, or that of a hub that has no way to it.
fn name_hint(error: &io::Error) -> &'static str {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)) => {
            "; a hub answers so while the peer is not linked to it"
        }
        Some(rustls::Error::AlertReceived(AlertDescription::InternalError)) => {
            "; the peer has no valid identity at this time, and its log says why"
        }
        _ => "",
    }
}

fn redirect_hint(status: StatusCode) -> &'static str {
    if status.is_redirection() {
        "; redirects are not followed, so give the final URL in the file"
    } else {
        ""
    }
}

/// What to ask, and how much to take.
pub(crate) struct Ask<'a> {
    pub(crate) url: &'a Url,
    /// Another way than the URL's own.
    pub(crate) way: Option<&'a BundleWay>,
    /// What to hand in; nothing asks for what is there.
    pub(crate) body: Option<Bytes>,
    /// Nothing goes without TLS.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Bytes of the longest answer that is read.
    pub(crate) most: usize,
    /// From the name lookup to the last byte.
    pub(crate) limit: Duration,
}

/// An answer; of one that is no success, the first few bytes.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// Fetches the bundle document at `url`, verified as `tls` says, by another way than the
/// URL's own if there is one.
pub(crate) async fn get(
    url: &Url,
    way: Option<&BundleWay>,
    tls: Arc<ClientConfig>,
    limit: Duration,
) -> Result<Bytes, FetchError> {
    let ask = Ask {
        url,
        way,
        body: None,
        tls: Some(tls),
        most: MAX_DOCUMENT_BYTES,
        limit,
    };
    let answer = exchange(ask).await?;
    match answer.status {
        StatusCode::OK => Ok(answer.body),
        other => Err(FetchError::Status(other)),
    }
}

/// Sends a request and reads the answer, both bounded.
pub(crate) async fn exchange(ask: Ask<'_>) -> Result<Answer, FetchError> {
    let limit = ask.limit;
    match timeout(limit, connect_and_ask(ask)).await {
        Ok(result) => result,
        Err(_) => Err(FetchError::Timeout(limit)),
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect_and_ask(ask: Ask<'_>) -> Result<Answer, FetchError> {
    let stream = connect(ask.url, ask.way, ask.tls).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    let no_host = || FetchError::NoHost(ask.url.clone());
    let request = request(ask.url, ask.body).ok_or_else(no_host)?;
    let read = async {
        let response = sender.send_request(request).await?;
        read_answer(response, ask.most).await
    };
    // The connection is driven here, so that giving up on the answer also closes it.
    tokio::pin!(connection, read);
    tokio::select! {
        biased;
        answer = &mut read => answer,
        // An answer of a known length is whole without a close_notify (RFC 9112, 9.8).
        ended = &mut connection => match (read.await, ended) {
            (Ok(answer), _) => Ok(answer),
            (Err(_), Err(ended)) => Err(ended.into()),
            (Err(error), Ok(())) => Err(error),
        },
    }
}

async fn connect(
    url: &Url,
    way: Option<&BundleWay>,
    tls: Option<Arc<ClientConfig>>,
) -> Result<Box<dyn Stream>, FetchError> {
    let no_host = || FetchError::NoHost(url.clone());
    let port = url.port_or_known_default().ok_or_else(no_host)?;
    let (to, name) = match (way, url.host().ok_or_else(no_host)?) {
        (Some(way), _) => (
            way.dial.to_string(),
            ServerName::try_from(way.name.clone()).map_err(|_| no_host())?,
        ),
        (None, Host::Domain(name)) => (
            format!("{name}:{port}"),
            ServerName::try_from(name.to_owned()).map_err(|_| no_host())?,
        ),
        (None, Host::Ipv4(ip)) => (format!("{ip}:{port}"), ServerName::from(IpAddr::from(ip))),
        (None, Host::Ipv6(ip)) => (format!("[{ip}]:{port}"), ServerName::from(IpAddr::from(ip))),
    };
    let host = || to.clone();
    let tcp = TcpStream::connect(&to).await;
    let tcp = tcp.map_err(|source| FetchError::Connect {
        host: host(),
        source,
    })?;
    let Some(tls) = tls else {
        return Ok(Box::new(tcp));
    };
    let stream = TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .map_err(|source| FetchError::Handshake {
            host: host(),
            source,
        })?;
    Ok(Box::new(stream))
}

fn request(url: &Url, body: Option<Bytes>) -> Option<Request<Full<Bytes>>> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str()?),
        None => url.host_str()?.to_owned(),
    };
    let request = match body {
        Some(_) => Request::post(target),
        None => Request::get(target),
    };
    request
        .header(HOST, host)
        .header(ACCEPT, "application/json, */*;q=0.5")
        .header(USER_AGENT, AGENT)
        .body(Full::new(body.unwrap_or_default()))
        .ok()
}

/// Reads the body as long as it stays within bounds; what the peer declares is checked first.
async fn read_answer(response: Response<Incoming>, most: usize) -> Result<Answer, FetchError> {
    let status = response.status();
    let success = status.is_success();
    let declared = response
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if success && declared.is_some_and(|length| length > most) {
        return Err(FetchError::TooLong(most));
    }
    let most = if success { most } else { MAX_REASON };
    let mut incoming = response.into_body();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let Some(data) = frame?.into_data().ok() else {
            continue;
        };
        if data.len() > most - body.len() {
            match success {
                true => return Err(FetchError::TooLong(most)),
                false => break,
            }
        }
        body.extend_from_slice(&data);
    }
    let body = body.freeze();
    Ok(Answer { status, body })
}
