//! Certificates for entries. Each is put on record, and none waits for the record for ever.

use std::time::Duration;

use async_trait::async_trait;
use renkei_api::issue::{CertificateIssuer, IssueError, IssueFuture, SvidRequest};
use renkei_spiffe::SpiffeId;
use rustls_pki_types::CertificateDer;

use super::{Inner, Server};
use crate::{
    SignError,
    authority::{Issuer, Signed, Subject},
};

/// The round that runs when an SVID is asked for may have looked at the time before.
const ROUNDS: u32 = 2;
/// How long an SVID waits for its record.
const RECORD_TIME: Duration = Duration::from_secs(3);
/// The life of an SVID by which the server knows a node, unless those of workloads live longer.
const NODE_LIFETIME: Duration = Duration::from_hours(1);

impl CertificateIssuer for Server {
    fn issue(&self, request: SvidRequest) -> IssueFuture<'_> {
        Box::pin(async move {
            self.sign(&request).await.map_err(|error| match error {
                SignError::UnknownEntry(_)
                | SignError::EntryEnded { .. }
                | SignError::Request(_) => IssueError::Refused(error.to_string()),
                _ => IssueError::Unavailable(error.to_string()),
            })
        })
    }
}

impl Server {
    pub(super) async fn sign(
        &self,
        request: &SvidRequest,
    ) -> Result<Vec<CertificateDer<'static>>, SignError> {
        let signed = self.0.sign(request).await;
        match &signed {
            Ok(_) => self.0.metrics.issued(),
            Err(error) => {
                self.0.metrics.refused();
                tracing::warn!(entry = %request.entry, %error, "no SVID issued");
            }
        }
        signed.map(|certificate| vec![certificate])
    }
}

#[async_trait]
impl Issuer for Server {
    async fn issue(&self, subject: &Subject, csr: &[u8]) -> Result<Signed, SignError> {
        self.0.issue(subject, csr, self.0.svid_lifetime()).await
    }

    async fn issue_for_node(&self, id: &SpiffeId, csr: &[u8]) -> Result<Signed, SignError> {
        let lifetime = self.0.svid_lifetime().max(NODE_LIFETIME);
        self.0.issue(&id.into(), csr, lifetime).await
    }
}

impl Inner {
    async fn sign(&self, request: &SvidRequest) -> Result<CertificateDer<'static>, SignError> {
        let known = self.entries.get(&request.entry);
        let known = known.ok_or_else(|| SignError::UnknownEntry(request.entry.clone()))?;
        let subject = Subject::from(&known.entry);
        let signed = self.sign_for(&subject, &request.csr, self.svid_lifetime());
        Ok(signed.await?.certificate)
    }

    fn svid_lifetime(&self) -> Duration {
        self.part.borrow().lifetimes.x509_svid
    }

    async fn issue(
        &self,
        subject: &Subject,
        csr: &[u8],
        lifetime: Duration,
    ) -> Result<Signed, SignError> {
        let signed = self.sign_for(subject, csr, lifetime).await;
        match &signed {
            Ok(_) => self.metrics.issued(),
            Err(error) => {
                self.metrics.refused();
                tracing::warn!(id = %subject.id, %error, "no SVID issued");
            }
        }
        signed
    }

    /// Signs for an identity that the caller has found to be allowed.
    async fn sign_for(
        &self,
        subject: &Subject,
        csr: &[u8],
        lifetime: Duration,
    ) -> Result<Signed, SignError> {
        let id = &subject.id;
        let now = (self.clock)();
        if self.authority.is_due(self.reading()) {
            self.rotation_due.notify_one();
        }
        let mut signed = self.authority.sign(subject, csr, lifetime, now);
        let unusable = |error: &SignError| {
            matches!(
                error,
                SignError::AuthorityEnded { .. } | SignError::ClockBehind { .. }
            )
        };
        // After a long sleep of the machine no timer has run yet.
        for _ in 0..ROUNDS {
            if !(signed.as_ref().is_err_and(unusable) && self.next_round().await) {
                break;
            }
            signed = self.authority.sign(subject, csr, lifetime, now);
        }
        let signed = signed?;
        // The record is for people; a disk that is full or gives no answer must not end the
        // site's traffic.
        let serial = &signed.record.serial;
        match tokio::time::timeout(RECORD_TIME, self.store.record_issued(&signed.record)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%id, serial, %error, "an issued SVID is not recorded")
            }
            Err(_) => {
                tracing::error!(%id, serial, "an issued SVID may not be recorded: the database does not answer")
            }
        }
        tracing::debug!(%id, serial = signed.record.serial, "issued an SVID");
        Ok(signed)
    }
}
