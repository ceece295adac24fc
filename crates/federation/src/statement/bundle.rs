//! What a site's server says every day: its trust bundle, where it is reached, what it offers.

use std::collections::BTreeMap;

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::{address, plain};
use crate::Digest;

/// A statement that counted for longer would outlive the compromise of an online key for as long.
const LONGEST: Duration = Duration::days(14);
const MAX_GATEWAYS: usize = 16;
const MAX_SERVICES: usize = 256;

/// A site's bundle at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BundleStatement {
    /// The trust domain of the site.
    pub trust_domain: TrustDomain,
    /// The identity of the site: the digest of its first site root.
    pub genesis: Digest,
    /// The version of the site root under which it was signed.
    pub root_version: u64,
    /// Rises with every statement.
    pub sequence: u64,
    /// The SPIFFE bundle document.
    pub bundle: Value,
    /// The URL of the site's bundle endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle_endpoint: Option<String>,
    /// Where its services are reached, as HOST:PORT; none for a site that only calls.
    #[serde(default)]
    pub gateways: Vec<String>,
    /// What it offers: names and protocols. Who may call is the site's own affair.
    #[serde(default)]
    pub services: BTreeMap<String, String>,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub issued: OffsetDateTime,
    /// When it ceases to count.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
}

impl BundleStatement {
    pub(super) fn check(&self) -> Result<(), String> {
        let life = self.expires - self.issued;
        if !life.is_positive() || life > LONGEST {
            return Err("a bundle statement counts for more than 0 and at most 14 days".into());
        }
        if self.gateways.len() > MAX_GATEWAYS || self.services.len() > MAX_SERVICES {
            return Err(format!(
                "at most {MAX_GATEWAYS} gateways and {MAX_SERVICES} services can be named"
            ));
        }
        if let Some(url) = &self.bundle_endpoint {
            plain("`bundle_endpoint`", url, 2048)?;
        }
        for gateway in &self.gateways {
            address("a gateway", gateway)?;
        }
        for (name, protocol) in &self.services {
            plain("the name of a service", name, 63)?;
            plain("a protocol", protocol, 32)?;
        }
        Ok(())
    }
}
