//! How a machine becomes a node: the token proves to each side who the other is, and the node gets
//! its SVID for a key that it has just made.

use std::sync::Arc;

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
use renkei_spiffe::{Bundle, BundleSet, SpiffeId, X509Svid, verify_peer};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use tonic::{Code, Status, transport::Channel};

use super::{ANSWER_TIME, JoinError, attest::chain, pin::first_contact};
use crate::certificate::CertificateRequest;

/// What the IDs of Renkei's nodes begin with, within their trust domain.
const NODES: &str = "/renkei/node/";

/// A machine that has become a node.
#[derive(Debug, Clone)]
pub struct Joined {
    /// The name of the node, as the site file has it.
    pub name: String,
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
    let (channel, pinned) = first_contact(server, token, provider).await?;
    let bundle = bundle(channel.clone(), &pinned).await?;
    let request = CertificateRequest::new(None)?;
    let answer = attest(channel, token, request.csr()).await?;
    let svid = answer
        .svid
        .ok_or(JoinError::Answer("the SVID is missing"))?;
    let svid = request.certified(chain(svid))?;
    let bundles = BundleSet::from_iter([Arc::new(bundle.clone())]);
    let algorithms = &provider.signature_verification_algorithms;
    verify_peer(svid.chain(), &bundles, clock::now(), algorithms)
        .map_err(JoinError::Unverifiable)?;
    let name = name_of(svid.id()).ok_or_else(|| JoinError::NotANode(svid.id().clone()))?;
    Ok(Joined {
        name,
        svid: Arc::new(svid),
        bundle: Arc::new(bundle),
    })
}

fn name_of(id: &SpiffeId) -> Option<String> {
    let name = id.path().strip_prefix(NODES)?;
    (!name.contains('/')).then(|| name.to_owned())
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
    token: &NodeToken,
    csr: Vec<u8>,
) -> Result<attest_agent_response::Result, JoinError> {
    let params = attest_agent_request::Params {
        data: Some(AttestationData {
            r#type: "join_token".to_owned(),
            payload: token.secret.payload().into_bytes(),
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
