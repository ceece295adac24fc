//! A registrar's word: whether a site is a member. It names the site's identity and never its
//! current keys, so a registrar can keep a site out and cannot speak for it.

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::Digest;

const MAX_SCOPE: usize = 16;

/// Whether a site is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdmissionStatus {
    /// The site is a member.
    Admitted,
    /// The site is not a member until it is admitted again.
    Suspended,
    /// The site is no longer a member.
    Removed,
}

/// An admission, or its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admission {
    /// The trust domain that is admitted or excluded.
    pub trust_domain: TrustDomain,
    /// The identity that has the name.
    pub genesis: Digest,
    /// What the registrar decided about the site.
    pub status: AdmissionStatus,
    /// The DNS names within which the trust domain must lie; anywhere when empty.
    #[serde(default)]
    pub scope: Vec<String>,
    /// When it was said. A later word replaces an earlier one, never the other way round.
    #[serde(with = "time::serde::rfc3339")]
    pub issued: OffsetDateTime,
    /// When it ceases to count.
    #[serde(with = "time::serde::rfc3339")]
    pub expires: OffsetDateTime,
}

impl Admission {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.scope.len() > MAX_SCOPE || self.scope.iter().any(|name| name.len() > 255) {
            return Err(format!("`scope` takes at most {MAX_SCOPE} names"));
        }
        Ok(())
    }

    /// Whether the trust domain lies within the scope.
    pub fn is_in_scope(&self) -> bool {
        let name = self.trust_domain.as_str();
        let within = |scope: &String| {
            let above = name.strip_suffix(scope.as_str());
            above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.scope.is_empty() || self.scope.iter().any(within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_whole_labels() {
        let within = |name: &str, scope: &[&str]| {
            Admission {
                trust_domain: TrustDomain::parse(name).unwrap(),
                genesis: Digest::of(b""),
                status: AdmissionStatus::Admitted,
                scope: scope.iter().map(|name| (*name).to_owned()).collect(),
                issued: OffsetDateTime::UNIX_EPOCH,
                expires: OffsetDateTime::UNIX_EPOCH,
            }
            .is_in_scope()
        };
        assert!(within("osaka.example", &[]));
        assert!(within("osaka.example", &["osaka.example"]));
        assert!(within(
            "hpc.osaka.example",
            &["tokyo.example", "osaka.example"]
        ));
        assert!(!within("notosaka.example", &["osaka.example"]));
        assert!(!within("example", &["osaka.example"]));
    }
}
