//! One bounded exchange of HTTP with an endpoint that a file of this site names, over TLS or, for
//! what is signed anyway, without. Redirects are followed for bundle documents alone ([`get`]).

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, HOST, LOCATION, USER_AGENT},
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
/// How many redirects one fetch follows.
const MAX_REDIRECTS: usize = 5;
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
    /// Any other status than 200 and the redirects that are followed.
    #[error("the endpoint answered {0}")]
    Status(StatusCode),
    /// Where the endpoint redirects to is no URL of a bundle endpoint (SPIFFE_Federation 5.2.1.1,
    /// 5.2.2.1).
    #[error("the endpoint redirects to a URL that is not followed: {0}")]
    Redirect(&'static str),
    /// One redirect after the other.
    #[error("the endpoint redirects more than {MAX_REDIRECTS} times")]
    TooManyRedirects,
    /// The TLS library refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
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
    /// Where the endpoint redirects to, as it says it.
    location: Option<String>,
}

/// Gives the side of a client for one connection.
pub(crate) type NewClient<'a> = dyn FnMut() -> Result<Arc<ClientConfig>, FetchError> + Send + 'a;

/// Fetches the bundle document at `url`, verified as `tls` says, by another way than the
/// URL's own if there is one. Redirects are followed within the same time, each verified in the
/// same way (SPIFFE_Federation 5.2.1.4, 5.2.2.4): for https_web a certificate of the web for the
/// new host, for https_spiffe an SVID with the ID of the endpoint that was configured.
pub(crate) async fn get(
    url: &Url,
    way: Option<&BundleWay>,
    tls: &mut NewClient<'_>,
    limit: Duration,
) -> Result<Bytes, FetchError> {
    let follow = async {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let ask = Ask {
                url: &at,
                way: way.filter(|_| is_same_endpoint(url, &at)),
                body: None,
                tls: Some(tls()?),
                most: MAX_DOCUMENT_BYTES,
                limit,
            };
            let answer = connect_and_ask(ask).await?;
            at = match (answer.status, answer.location) {
                (StatusCode::OK, _) => return Ok(answer.body),
                (status, Some(location)) if is_followed(status) => redirected(&at, &location)?,
                (other, _) => return Err(FetchError::Status(other)),
            };
        }
        Err(FetchError::TooManyRedirects)
    };
    match timeout(limit, follow).await {
        Ok(result) => result,
        Err(_) => Err(FetchError::Timeout(limit)),
    }
}

/// RFC 9110 15.4, without those that name no single place.
fn is_followed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn is_same_endpoint(one: &Url, other: &Url) -> bool {
    let port = Url::port_or_known_default;
    one.host() == other.host() && port(one) == port(other)
}

/// The URL that a location means at a URL (RFC 9110 10.2.2), if it is one of a bundle endpoint.
fn redirected(at: &Url, location: &str) -> Result<Url, FetchError> {
    let refused = |why| Err(FetchError::Redirect(why));
    match at.join(location) {
        Err(_) => refused("it is no URL"),
        Ok(url) if url.scheme() != "https" => refused("its scheme is not https"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            refused("it has user information")
        }
        Ok(url) => Ok(url),
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
    let location = response.headers().get(LOCATION);
    let location = location.and_then(|value| Some(value.to_str().ok()?.to_owned()));
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
    Ok(Answer {
        status,
        body,
        location,
    })
}
