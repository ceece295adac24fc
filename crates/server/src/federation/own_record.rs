//! What this site shows of itself to peers that know its identity: its chain of site roots and its
//! newest statement, whether or not it is in a federation.
//!
//! It never makes keys: `renkei identity` does.

use std::path::Path;

use bytes::Bytes;
use renkei_api::status::OwnIdentityStatus;
use renkei_federation::{Envelope, Pin, RecordError, SiteRecord};
use renkei_site::ServerPart;
use time::{Duration, OffsetDateTime};

use super::{publisher, revocation::withdrawals_of, site_folder::OwnError, site_keys::SiteKeys};

/// How long before its site root expires a site begins to warn of it.
const WARN: Duration = Duration::days(30);

/// Why there is no record of this site, or an old one.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Own(#[from] OwnError),
    #[error("the record of this site cannot be shown to its peers: {0}")]
    Record(#[from] RecordError),
}

/// The record as it was last composed, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct OwnRecord {
    bytes: Bytes,
    status: Option<OwnIdentityStatus>,
    fault: Option<String>,
    /// The version of the site root whose end was warned of.
    warned_of: Option<u64>,
}

impl OwnRecord {
    pub(super) fn status(&self) -> Option<OwnIdentityStatus> {
        self.status.clone().map(|status| OwnIdentityStatus {
            fault: self.fault.clone(),
            ..status
        })
    }

    /// Composes the record again. With a fault the last one stays.
    pub(super) fn update(
        &mut self,
        state: &Path,
        part: &ServerPart,
        document: &[u8],
        now: OffsetDateTime,
    ) -> Bytes {
        let fault = match self.compose(state, part, document, now) {
            Ok(()) => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = fault.as_ref().filter(|_| fault != self.fault) {
            tracing::error!(%error, "peers that know this site by its identity get nothing new of it");
        }
        self.fault = fault;
        self.warn_of_end(now);
        self.bytes.clone()
    }

    fn compose(
        &mut self,
        state: &Path,
        part: &ServerPart,
        document: &[u8],
        now: OffsetDateTime,
    ) -> Result<(), Fault> {
        let Some(own) = SiteKeys::open(state, &part.trust_domain)? else {
            (self.bytes, self.status) = (Bytes::new(), None);
            return Ok(());
        };
        self.status = Some(OwnIdentityStatus {
            identity: own.genesis().to_string(),
            root_version: own.head().version,
            root_expires: own.head().expires,
            sequence: None,
            expires: None,
            fault: None,
        });
        let announced = (&part.trust_domain, &part.announcement);
        let newest = publisher::newest(&own, announced, document, 0, now)?;
        let Some((envelope, statement)) = newest else {
            return Ok(());
        };
        if let Some(status) = &mut self.status {
            status.sequence = Some(statement.sequence);
            status.expires = Some(statement.expires);
        }
        let statements = own.roots().iter().cloned().chain([envelope]);
        let withdrawal = withdrawal(state, part, &own, now);
        let record = SiteRecord::new(statements.chain(withdrawal))?;
        self.bytes = record.to_bytes()?.into();
        Ok(())
    }

    fn warn_of_end(&mut self, now: OffsetDateTime) {
        let Some(status) = &self.status else { return };
        let (version, end) = (status.root_version, status.root_expires);
        if end - now < WARN && self.warned_of.replace(version) != Some(version) {
            tracing::warn!(
                version,
                %end,
                "the site root expires at this time: afterwards peers accept nothing of this site; make the next one with renkei federation root renew"
            );
        }
    }
}

/// The withdrawal of this site that was imported here, if its own keys have signed it.
fn withdrawal(
    state: &Path,
    part: &ServerPart,
    own: &SiteKeys,
    now: OffsetDateTime,
) -> Option<Envelope> {
    let pin = Pin {
        trust_domain: part.trust_domain.clone(),
        identity: own.genesis(),
        at_least: 1,
    };
    let is_valid = |envelope: &Envelope| {
        let statements = own.roots().iter().chain([envelope]).cloned();
        let record = SiteRecord::new(statements);
        record.is_ok_and(|record| record.verify(&pin, None, None, now).is_ok())
    };
    let mut kept = withdrawals_of(state, own.genesis()).into_iter();
    kept.find(is_valid)
}
