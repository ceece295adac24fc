//! Asking for one SVID.

use std::time::Duration;

use renkei_api::{
    issue::{CertificateIssuer, IssueError, SvidRequest},
    node::EntryId,
};
use renkei_spiffe::{PeerError, SpiffeId, X509Svid};

use crate::certificate::{CertificateError, CertificateRequest};

/// How long an issuer may take.
const ISSUE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no new SVID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The issuer has not signed.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// There was nothing to sign, or something else was signed.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The issuer signed for another ID.
    #[error("the issuer sent an SVID of {0}")]
    OtherId(SpiffeId),
    /// The chain does not lead to the own trust domain's bundle.
    #[error("the issued SVID does not verify here: {0}")]
    Unverifiable(#[source] PeerError),
}

/// A new SVID of an entry, which is to be one of `id`, with a new key.
pub(super) async fn request(
    issuer: &dyn CertificateIssuer,
    entry: EntryId,
    id: &SpiffeId,
) -> Result<X509Svid, RequestError> {
    let request = CertificateRequest::new(Some(id))?;
    let csr = request.csr();
    let answer =
        tokio::time::timeout(ISSUE_TIMEOUT, issuer.issue(SvidRequest { entry, csr })).await;
    let late = |_| IssueError::Unavailable("no answer in time".into());
    let svid = request.certified(answer.map_err(late)??)?;
    if svid.id() == id {
        Ok(svid)
    } else {
        Err(RequestError::OtherId(svid.id().clone()))
    }
}
