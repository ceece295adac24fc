//! The SVIDs of SPIRE's API, and the renewal of the node's own.

use std::sync::Arc;

use renkei_api::spire::api::{
    server::agent::v1::{AgentX509svidParams, RenewAgentRequest, agent_client::AgentClient},
    types,
};
use renkei_runtime::clock;
use renkei_spiffe::{BundleSet, X509Svid, verify_peer};
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;
use tonic::transport::Channel;

use super::{ANSWER_TIME, LinkError, error::RenewalError};
use crate::certificate::CertificateRequest;

/// Leaf first, without the root.
pub(super) fn chain(svid: types::X509svid) -> Vec<CertificateDer<'static>> {
    let chain = svid.cert_chain.into_iter();
    chain.map(CertificateDer::from).collect()
}

/// A new SVID of the node, for a new key.
pub(super) async fn renew(
    channel: Channel,
    present: &X509Svid,
    bundles: &BundleSet,
    provider: &CryptoProvider,
) -> Result<Arc<X509Svid>, LinkError> {
    let request = CertificateRequest::new(Some(present.id())).map_err(RenewalError::from)?;
    let csr = request.csr();
    let mut client = AgentClient::new(channel);
    let asked = client.renew_agent(RenewAgentRequest {
        params: Some(AgentX509svidParams { csr }),
    });
    let answer = tokio::time::timeout(ANSWER_TIME, asked).await;
    let answer = answer.map_err(|_| LinkError::Timeout)??.into_inner();
    let svid = answer.svid.ok_or(RenewalError::Answer)?;
    let svid = request.certified(chain(svid)).map_err(RenewalError::from)?;
    let algorithms = &provider.signature_verification_algorithms;
    verify_peer(svid.chain(), bundles, clock::now(), algorithms)
        .map_err(RenewalError::Unverifiable)?;
    match svid.id() == present.id() {
        true => Ok(Arc::new(svid)),
        false => Err(RenewalError::OtherId(svid.id().clone()).into()),
    }
}
