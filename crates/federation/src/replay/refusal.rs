//! Why an entry of the log changes nothing.

use renkei_spiffe::{DocumentError, TrustDomain};

use crate::{Digest, EnvelopeError};

/// Why a statement in the log does not count. The replay continues: anybody may have anything
/// logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StatementRefusal {
    /// Not a signed statement at all.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Not enough of the right keys.
    #[error("it is not signed by {0}")]
    Signature(&'static str),
    /// The same identity, another name.
    #[error("the identity {} belongs to {name}", genesis.short())]
    Relabelled {
        /// The identity that is already known.
        genesis: Digest,
        /// The trust domain that has this identity.
        name: TrustDomain,
    },
    /// A statement of an identity that is not in the log.
    #[error("no site root of the identity {} is in the log", .0.short())]
    UnknownGenesis(Digest),
    /// The genesis is there already.
    #[error("the genesis is in the log already")]
    Repeated,
    /// It follows no version that is current.
    #[error("it does not follow the current version of the site root")]
    NotTheNext,
    /// It was made under another version of the site root.
    #[error("it was made under version {said} of the site root; {current} is current")]
    RootVersion {
        /// The version that the statement names.
        said: u64,
        /// The current version of the site root.
        current: u64,
    },
    /// A number that does not rise, or rises too far.
    #[error("its sequence {offered} does not follow {known}")]
    Sequence {
        /// The last number that was accepted.
        known: u64,
        /// The one in it.
        offered: u64,
    },
    /// The SPIFFE bundle inside is older than the one known, or another of the same number.
    #[error(
        "its bundle has the spiffe_sequence {offered:?}, and {known:?} is known; after the loss of a CA the site needs a new site root"
    )]
    BundleSequence {
        /// The sequence of the last bundle that was accepted, if there is one.
        known: Option<u64>,
        /// The one in it.
        offered: Option<u64>,
    },
    /// The SPIFFE bundle inside cannot be read.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The site has withdrawn.
    #[error("the site has withdrawn for ever")]
    Withdrawn,
    /// A later word of the registrar is known.
    #[error("the registrar has said something later about this site")]
    Outdated,
    /// The name belongs to another identity.
    #[error(
        "the name belongs to the identity {} until that one withdraws", .0.short()
    )]
    NameTaken(Digest),
    /// Outside the names it may be about.
    #[error("the trust domain lies outside the admission's scope")]
    OutOfScope,
    /// More than anybody needs.
    #[error("there are too many {0} already")]
    TooMany(&'static str),
}
