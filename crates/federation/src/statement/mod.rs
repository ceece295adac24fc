//! Statements: what sites and registrars say, as JSON payloads.
//!
//! Fields that this version does not know are kept (the signed bytes stay as they are) and not
//! used. Everything is bounded here; whether a statement is true is decided by [`crate::replay`].

mod admission;
mod bundle;
mod endorsement;
mod site_root;
mod withdrawal;

use renkei_spiffe::TrustDomain;
use serde::{Deserialize, Serialize};

pub use admission::{Admission, AdmissionStatus};
pub use bundle::BundleStatement;
pub use endorsement::Endorsement;
pub use site_root::SiteRoot;
pub use withdrawal::Withdrawal;

use crate::json;

/// Why a payload is not a statement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementError {
    /// Not the JSON of a statement.
    #[error("not a statement: {0}")]
    Json(String),
    /// A value that no statement may have.
    #[error("{0}")]
    Value(String),
}

/// A statement of the log, by its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Statement {
    /// A site's root keys.
    SiteRoot(SiteRoot),
    /// A site's trust bundle and what it offers.
    Bundle(BundleStatement),
    /// A registrar's word on a member.
    Admission(Admission),
    /// A member's word on a newcomer.
    Endorsement(Endorsement),
    /// A site's own end.
    Withdrawal(Withdrawal),
}

impl Statement {
    pub(crate) fn parse(payload: &[u8]) -> Result<Self, StatementError> {
        let value = json::parse(payload).map_err(StatementError::Json)?;
        let statement: Self = serde_json::from_value(value)
            .map_err(|error| StatementError::Json(json::describe(&error)))?;
        statement.check()?;
        Ok(statement)
    }

    /// The bytes to sign.
    pub(crate) fn to_payload(&self) -> Result<Vec<u8>, StatementError> {
        self.check()?;
        serde_json::to_vec(self).map_err(|error| StatementError::Json(json::describe(&error)))
    }

    fn check(&self) -> Result<(), StatementError> {
        match self {
            Self::SiteRoot(root) => root.check(),
            Self::Bundle(bundle) => bundle.check(),
            Self::Admission(admission) => admission.check(),
            Self::Endorsement(_) => Ok(()),
            Self::Withdrawal(withdrawal) => withdrawal.check(),
        }
        .map_err(StatementError::Value)
    }

    /// Whom it is about.
    pub fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::SiteRoot(root) => &root.trust_domain,
            Self::Bundle(bundle) => &bundle.trust_domain,
            Self::Admission(admission) => &admission.trust_domain,
            Self::Endorsement(endorsement) => &endorsement.trust_domain,
            Self::Withdrawal(withdrawal) => &withdrawal.trust_domain,
        }
    }

    /// What it is called.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SiteRoot(_) => "site-root",
            Self::Bundle(_) => "bundle",
            Self::Admission(_) => "admission",
            Self::Endorsement(_) => "endorsement",
            Self::Withdrawal(_) => "withdrawal",
        }
    }

    /// Whether it can only take trust away; such a statement acts on sight.
    pub fn reduces_trust(&self) -> bool {
        match self {
            Self::Withdrawal(_) => true,
            Self::Admission(admission) => admission.status != AdmissionStatus::Admitted,
            Self::SiteRoot(_) | Self::Bundle(_) | Self::Endorsement(_) => false,
        }
    }
}

/// Texts for people are bounded, and have no control characters that a terminal would obey.
fn plain(what: &str, text: &str, most: usize) -> Result<(), String> {
    match text.len() <= most && !text.chars().any(char::is_control) {
        true => Ok(()),
        false => Err(format!(
            "{what} has more than {most} bytes, or control characters"
        )),
    }
}

/// `HOST:PORT`, as far as a statement has to know.
fn address(what: &str, text: &str) -> Result<(), String> {
    let port = text.rsplit_once(':').and_then(|(host, port)| {
        let port: u16 = port.parse().ok()?;
        (!host.is_empty() && port != 0).then_some(())
    });
    match port {
        Some(()) if text.len() <= 300 && text.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
        _ => Err(format!("{what} is not HOST:PORT")),
    }
}
