//! How an agent gets certificates from the server of its trust domain.

use std::{future::Future, pin::Pin};

use rustls_pki_types::CertificateDer;

use crate::node::EntryId;

/// A request for one X.509-SVID.
#[derive(Debug, Clone)]
pub struct SvidRequest {
    /// The entry that the identity comes from.
    pub entry: EntryId,
    /// A certificate request (PKCS#10, DER). Only its key is used.
    pub csr: Vec<u8>,
}

/// Why no certificate was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// Asking again for the same brings the same answer.
    #[error("the issuer refuses: {0}")]
    Refused(String),
    /// The issuer could not do it now.
    #[error("the issuer cannot be reached: {0}")]
    Unavailable(String),
}

/// An answer that comes later.
pub type IssueFuture<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<CertificateDer<'static>>, IssueError>> + Send + 'a>>;

/// Issues certificates for entries: the server of the trust domain, in this process or elsewhere.
pub trait CertificateIssuer: Send + Sync {
    /// The chain has the leaf first and does not contain the root.
    fn issue(&self, request: SvidRequest) -> IssueFuture<'_>;
}
