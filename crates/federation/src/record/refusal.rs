//! Why the record of a site is not accepted.

use renkei_spiffe::TrustDomain;

use super::RecordError;
use crate::{Digest, Reason, replay::StatementRefusal};

/// Why the record of a site is not accepted. What is known of the site stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SiteRefusal {
    /// Not a record at all.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another site's chain.
    #[error(
        "the site at this address has the identity {found}, not {expected}; check `identity` with the operator of the peer (renkei identity)"
    )]
    OtherIdentity {
        /// The pinned identity.
        expected: Digest,
        /// The digest of the first site root that was offered.
        found: Digest,
    },
    /// The chain breaks.
    #[error("version {version} of the peer's site root is not valid: {reason}")]
    Chain {
        /// Where it breaks.
        version: u64,
        /// The rule that is broken.
        reason: StatementRefusal,
    },
    /// The identity is another trust domain's.
    #[error("the identity belongs to {owner}, not to {expected}")]
    ForeignDomain {
        /// The name under `peers`.
        expected: TrustDomain,
        /// The name in the site root.
        owner: TrustDomain,
    },
    /// Older than what the operator has demanded.
    #[error(
        "the peer shows version {offered} of its site root, and `identity` demands version {at_least} at least: the peer is behind, or another party shows an old state of it"
    )]
    Behind {
        /// The version that was shown.
        offered: u64,
        /// The version that the site file demands.
        at_least: u64,
    },
    /// Older than what was seen.
    #[error(
        "the peer shows version {offered} of its site root, and version {known} was seen before: its state is an old copy, or another party shows one"
    )]
    RootVersionFell {
        /// The version that was seen.
        known: u64,
        /// The version that was shown.
        offered: u64,
    },
    /// Two site roots of one version.
    #[error(
        "the peer shows another version {version} of its site root than the one seen before: two parties have its root keys; ask its operator"
    )]
    Forked {
        /// The version of both.
        version: u64,
    },
    /// The statement is about another site.
    #[error("the bundle statement is about {name} with the identity {}", identity.short())]
    ForeignStatement {
        /// The trust domain that it names.
        name: TrustDomain,
        /// The identity that it names.
        identity: Digest,
    },
    /// The statement breaks a rule.
    #[error("a statement of the peer is not valid: {0}")]
    Statement(#[from] StatementRefusal),
    /// Older than what was seen.
    #[error(
        "the peer's bundle statement has the sequence {offered}, and {known} was seen before: its state is an old copy, or another party shows an old statement"
    )]
    SequenceFell {
        /// The sequence that was seen.
        known: u64,
        /// The sequence that was shown.
        offered: u64,
    },
    /// Two statements with one number.
    #[error(
        "the peer shows another bundle statement {sequence} than the one seen before: two parties have its online key; a new online key (renkei federation root renew) ends that"
    )]
    SameSequence {
        /// The sequence of both.
        sequence: u64,
    },
    /// A clock is wrong.
    #[error("{0}")]
    Time(Reason),
}

impl SiteRefusal {
    /// A short, stable name for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Record(_) => "record",
            Self::OtherIdentity { .. } | Self::ForeignDomain { .. } => "identity",
            Self::Chain { .. } | Self::Forked { .. } => "root_chain",
            Self::Behind { .. } | Self::RootVersionFell { .. } => "root_rollback",
            Self::ForeignStatement { .. } | Self::Statement(_) => "statement",
            Self::SequenceFell { .. } | Self::SameSequence { .. } => "statement_rollback",
            Self::Time(_) => "time",
        }
    }
}
