//! The federation: every site keeps its own CA, joining costs one registration, and who runs
//! the registry can refuse service and nothing else.
//!
//! - [`Statement`]s are what sites and registrars say, signed in [`Envelope`]s (DSSE, Ed25519).
//! - Every statement is an entry of one log ([`log`], in the formats of C2SP). Sites replay all of
//!   it ([`replay`]): a proof of inclusion does not show that a statement is the newest.
//! - [`View`] is what one site has seen of the log. It goes forward only, counts what a quorum of
//!   witnesses has seen, and reports when the log shows two histories.
//! - [`members`] says who counts at one moment, and why the others do not.
//! - [`SiteRecord`] is the same of one site without a log, for a peer that knows its identity.
//!
//! This crate is pure: no sockets, files, tasks, environment or clock. It holds no policy: a
//! member reaches nothing until a service allows it.

/// How often a site reads the mirrors of the log, as a witness too.
pub const READ_INTERVAL: time::Duration = time::Duration::MINUTE;

mod envelope;
mod federation;
mod json;
mod key;
pub mod log;
mod members;
mod record;
pub mod replay;
mod statement;
mod view;

#[cfg(test)]
mod tests;

pub use envelope::{Envelope, EnvelopeError, MAX_ENVELOPE_BYTES, PAYLOAD_TYPE};
pub use federation::{Federation, KeySet, Witnesses};
pub use key::{Digest, KeyError, PublicKey, SigningKey};
pub use log::{CheckpointError, SignedCheckpoint};
pub use members::{Local, Member, Reason, Verified, members};
pub use record::{MAX_RECORD_BYTES, Pin, RecordError, SiteNews, SiteRecord, SiteRefusal, SiteSeen};
pub use renkei_spiffe::TrustDomain;
pub use statement::{
    Admission, AdmissionStatus, BundleStatement, Endorsement, SiteRoot, Statement, StatementError,
    Withdrawal,
};
pub use view::{Basis, Extension, FRESHNESS, Fork, UpdateError, View};
