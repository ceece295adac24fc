//! What an X509-SVID is made for.

use std::time::Duration;

use renkei_spiffe::SpiffeId;
use time::OffsetDateTime;

use crate::store::Registration;

/// An identity, and what its entry says of the certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) id: SpiffeId,
    pub(crate) dns_names: Vec<String>,
    /// Another lifetime than usual.
    pub(crate) lifetime: Option<Duration>,
    /// The entry ends then, and its SVIDs with it.
    pub(crate) ends_at: Option<OffsetDateTime>,
}

impl From<&SpiffeId> for Subject {
    fn from(id: &SpiffeId) -> Self {
        Self {
            id: id.clone(),
            dns_names: Vec::new(),
            lifetime: None,
            ends_at: None,
        }
    }
}

impl From<&Self> for Subject {
    fn from(subject: &Self) -> Self {
        subject.clone()
    }
}

impl From<&Registration> for Subject {
    fn from(entry: &Registration) -> Self {
        let attributes = &entry.attributes;
        let seconds = attributes.x509_svid_seconds;
        // An end beyond all dates is none.
        let end = attributes
            .expires_at
            .map(OffsetDateTime::from_unix_timestamp);
        Self {
            id: entry.spiffe_id.clone(),
            dns_names: attributes.dns_names.clone(),
            lifetime: seconds.map(|seconds| Duration::from_secs(seconds.into())),
            ends_at: end.and_then(Result::ok),
        }
    }
}
