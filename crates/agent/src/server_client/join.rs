//! How a machine becomes a node: it proves who it is with a token that is for one use, and gets its
//! SVID for a key that it has just made. The server may be Renkei's or SPIRE's.

use std::{fmt, str::FromStr, sync::Arc};

use futures_util::stream;
use renkei_api::{
    node::NodeToken,
    spire::api::{
        server::{
            agent::v1::{
                AgentX509svidParams, AttestAgentRequest, AttestAgentResponse,
                agent_client::AgentClient, attest_agent_request, attest_agent_response,
            },
            bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
        },
        types::AttestationData,
    },
};
use renkei_runtime::clock;
use renkei_site::HostPort;
use renkei_spiffe::{Bundle, BundleSet, X509Svid, verify_peer};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use tonic::{Code, Status, transport::Channel};

use super::{
    ANSWER_TIME, JoinError,
    attest::chain,
    pin::{Anchor, first_contact},
};
use crate::certificate::CertificateRequest;

/// What the IDs of Renkei's nodes begin with, within their trust domain.
const NODES: &str = "/renkei/node/";

/// What the IDs of agents begin with at a SPIRE server.
const AGENTS: &str = "/spire/agent/";

/// The most characters of a join token. SPIRE's are UUIDs unless an operator chooses another.
const MAX_TOKEN: usize = 256;

/// Whose server a node has joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// It sends each change, and configures the node's proxy.
    Renkei,
    /// It is asked for entries and bundles again and again, and configures no proxy.
    Spire,
}

/// A machine that has become a node.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The name of the node, as the site file has it. At a SPIRE server the path of its ID, without
    /// the first slash.
    pub name: String,
    /// Whose server this is.
    pub kind: ServerKind,
    /// The SVID with which the node speaks to the server.
    pub svid: Arc<X509Svid>,
    /// The bundle of the site.
    pub bundle: Arc<Bundle>,
}

/// Joins the site of `token` by the server at this address. The token is used up by it.
pub async fn join(
    server: &HostPort,
    token: &NodeToken,
    provider: &Arc<CryptoProvider>,
) -> Result<Joined, JoinError> {
    let payload = token.secret.payload().into_bytes();
    let contact = first_contact(server, Anchor::Token(token.clone()), provider).await?;
    let (svid, bundle) = attested(contact, payload, provider).await?;
    let name = svid.id().path().strip_prefix(NODES);
    let name = name.filter(|name| !name.contains('/')).map(str::to_owned);
    Ok(Joined {
        name: name.ok_or_else(|| JoinError::NotANode(svid.id().clone()))?,
        kind: ServerKind::Renkei,
        svid,
        bundle,
    })
}

/// Joins a SPIRE server that has this bundle, with a join token of it. The token is used up by it.
pub async fn join_spire(
    server: &HostPort,
    bundle: &Bundle,
    token: &JoinToken,
    provider: &Arc<CryptoProvider>,
) -> Result<Joined, JoinError> {
    let payload = token.0.clone().into_bytes();
    let contact = first_contact(server, Anchor::Bundle(bundle.clone()), provider).await?;
    let (svid, bundle) = attested(contact, payload, provider).await?;
    let path = svid.id().path();
    if !path.starts_with(AGENTS) {
        return Err(JoinError::NotANode(svid.id().clone()));
    }
    Ok(Joined {
        name: path.trim_start_matches('/').to_owned(),
        kind: ServerKind::Spire,
        svid,
        bundle,
    })
}

/// A join token of a SPIRE server. It is not shown.
#[derive(Clone)]
pub struct JoinToken(String);

/// A text is no join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a join token has 1 to {MAX_TOKEN} visible ASCII characters, as `spire-server token generate` prints it"
)]
pub struct JoinTokenError;

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let fits = (1..=MAX_TOKEN).contains(&text.len());
        match fits && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.to_owned())),
            false => Err(JoinTokenError),
        }
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken")
    }
}

/// The SVID of this machine, and the bundle of its trust domain.
async fn attested(
    (channel, known): (Channel, Bundle),
    payload: Vec<u8>,
    provider: &CryptoProvider,
) -> Result<(Arc<X509Svid>, Arc<Bundle>), JoinError> {
    let bundle = bundle(channel.clone(), &known).await?;
    let request = CertificateRequest::new(None)?;
    let answer = attest(channel, payload, request.csr()).await?;
    let svid = answer
        .svid
        .ok_or(JoinError::Answer("the SVID is missing"))?;
    let svid = request.certified(chain(svid))?;
    let bundles = BundleSet::from_iter([Arc::new(bundle.clone())]);
    let algorithms = &provider.signature_verification_algorithms;
    verify_peer(svid.chain(), &bundles, clock::now(), algorithms)
        .map_err(JoinError::Unverifiable)?;
    Ok((Arc::new(svid), Arc::new(bundle)))
}

/// All CAs of the site: the one that signs need not be that of the token.
async fn bundle(channel: Channel, pinned: &Bundle) -> Result<Bundle, JoinError> {
    let mut client = BundleClient::new(channel);
    let asked = client.get_bundle(GetBundleRequest { output_mask: None });
    let answer = tokio::time::timeout(ANSWER_TIME, asked).await;
    let answer = answer
        .map_err(|_| JoinError::Timeout)?
        .map_err(|status| JoinError::Failed(Box::new(status)))?
        .into_inner();
    let authorities = answer.x509_authorities.into_iter();
    let authorities: Vec<_> = authorities
        .map(|authority| CertificateDer::from(authority.asn1))
        .collect();
    match authorities.is_empty() {
        true => Err(JoinError::Answer("the bundle is empty")),
        false => Ok(Bundle {
            x509_authorities: authorities,
            ..Bundle::empty(pinned.trust_domain.clone())
        }),
    }
}

async fn attest(
    channel: Channel,
    payload: Vec<u8>,
    csr: Vec<u8>,
) -> Result<attest_agent_response::Result, JoinError> {
    let params = attest_agent_request::Params {
        data: Some(AttestationData {
            r#type: "join_token".to_owned(),
            payload,
        }),
        params: Some(AgentX509svidParams { csr }),
    };
    let request = AttestAgentRequest {
        step: Some(attest_agent_request::Step::Params(params)),
    };
    let mut client = AgentClient::new(channel);
    let asked = async {
        let answers = client.attest_agent(stream::iter([request])).await?;
        answers.into_inner().message().await
    };
    let answer: Option<AttestAgentResponse> = tokio::time::timeout(ANSWER_TIME, asked)
        .await
        .map_err(|_| JoinError::Timeout)?
        .map_err(refused)?;
    match answer.and_then(|answer| answer.step) {
        Some(attest_agent_response::Step::Result(result)) => Ok(result),
        Some(attest_agent_response::Step::Challenge(_)) => {
            Err(JoinError::Answer("a join token has no challenge"))
        }
        None => Err(JoinError::Answer("it is empty")),
    }
}

fn refused(status: Status) -> JoinError {
    let is_passing = matches!(
        status.code(),
        Code::Unavailable | Code::Internal | Code::Unknown | Code::Cancelled
    );
    match is_passing {
        true => JoinError::Failed(Box::new(status)),
        false => JoinError::Refused(Box::new(status)),
    }
}
