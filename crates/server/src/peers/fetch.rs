//! One bounded GET of a bundle document over TLS. No redirects are followed: the endpoint is the
//! one that the site file names.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{
    Request, Response, StatusCode,
    header::{ACCEPT, CONTENT_LENGTH, HOST, USER_AGENT},
};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use renkei_site::BundleWay;
use renkei_spiffe::MAX_DOCUMENT_BYTES;
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 32 * 1024;
const AGENT: &str = concat!("renkei/", env!("CARGO_PKG_VERSION"));

/// Why a document could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL has no host that TLS could ask for.
    #[error("the URL {0} names no host")]
    NoHost(Url),
    /// No connection.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS failed, for example by an untrusted certificate.
    #[error("the TLS handshake with {host} failed: {source}{hint}", hint = name_hint(source))]
    Handshake {
        /// Host and port.
        host: String,
        /// What TLS said.
        source: io::Error,
    },
    /// Not the whole document in time.
    #[error("no whole answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// Not HTTP, or the connection broke.
    #[error("the HTTP exchange failed: {0}")]
    Http(#[from] hyper::Error),
    /// Any other status than 200, redirects included.
    #[error("the endpoint answered {0}{hint}", hint = redirect_hint(*.0))]
    Status(StatusCode),
    /// More than a bundle document may have.
    #[error("the document is longer than {MAX_DOCUMENT_BYTES} bytes")]
    TooLong,
}

impl FetchError {
    /// The failure of a handshake, whose cause the verifier may know better.
    pub(super) fn handshake(&self) -> Option<&io::Error> {
        match self {
            Self::Handshake { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What a hub says when it has no way to the site.
fn name_hint(error: &io::Error) -> &'static str {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName)) => {
            "; a hub answers so while the peer is not linked to it"
        }
        _ => "",
    }
}

fn redirect_hint(status: StatusCode) -> &'static str {
    if status.is_redirection() {
        "; redirects are not followed, so give the final URL in the site file"
    } else {
        ""
    }
}

/// Fetches the document at `url`, verified as `tls` says, by another way than the URL's own if
/// there is one. `limit` is the time from the name lookup to the last byte.
pub(super) async fn get(
    url: &Url,
    way: Option<&BundleWay>,
    tls: Arc<ClientConfig>,
    limit: Duration,
) -> Result<Bytes, FetchError> {
    match timeout(limit, exchange(url, way, tls)).await {
        Ok(result) => result,
        Err(_) => Err(FetchError::Timeout(limit)),
    }
}

async fn exchange(
    url: &Url,
    way: Option<&BundleWay>,
    tls: Arc<ClientConfig>,
) -> Result<Bytes, FetchError> {
    let stream = connect(url, way, tls).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await?;
    let request = request(url).ok_or_else(|| FetchError::NoHost(url.clone()))?;
    let read = async {
        let response = sender.send_request(request).await?;
        read_document(response).await
    };
    // The connection is driven here, so that giving up on the answer also closes it.
    tokio::pin!(connection, read);
    tokio::select! {
        biased;
        document = &mut read => document,
        ended = &mut connection => {
            ended?;
            read.await
        }
    }
}

async fn connect(
    url: &Url,
    way: Option<&BundleWay>,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, FetchError> {
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
    TlsConnector::from(tls)
        .connect(name, tcp)
        .await
        .map_err(|source| FetchError::Handshake {
            host: host(),
            source,
        })
}

fn request(url: &Url) -> Option<Request<Empty<Bytes>>> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str()?),
        None => url.host_str()?.to_owned(),
    };
    Request::get(target)
        .header(HOST, host)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, AGENT)
        .body(Empty::new())
        .ok()
}

/// Reads the body as long as it stays within bounds; what the peer declares is checked first.
async fn read_document(response: Response<Incoming>) -> Result<Bytes, FetchError> {
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let declared = response
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > MAX_DOCUMENT_BYTES) {
        return Err(FetchError::TooLong);
    }
    let mut body = response.into_body();
    let mut document = BytesMut::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            if data.len() > MAX_DOCUMENT_BYTES - document.len() {
                return Err(FetchError::TooLong);
            }
            document.extend_from_slice(data);
        }
    }
    Ok(document.freeze())
}
