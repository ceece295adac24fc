//! What a site shows of itself to a peer that knows its identity and reads no log: its chain of
//! site roots, and its newest bundle statement.
//!
//! The peer verifies it from the genesis on, at every fetch, and compares it with what it has seen
//! before. So the way on which a record comes needs no trust. Nothing here keeps state: what was
//! seen goes in and comes out as [`SiteSeen`].

mod refusal;

use renkei_spiffe::{Bundle, TrustDomain};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{
    BundleStatement, Digest, Envelope, EnvelopeError, Reason, SiteRoot, Statement, Verified,
    Withdrawal,
    members::valid_now,
    replay::{Accepted, Chain, StatementRefusal, bundle_follows},
};

pub use refusal::SiteRefusal;

/// The longest record: more than a hundred versions of the largest site root.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;

/// Why bytes are not the record of a site.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// More than [`MAX_RECORD_BYTES`].
    #[error("the record of the site has {0} bytes; at most {MAX_RECORD_BYTES} are taken")]
    TooLarge(usize),
    /// A line is no signed statement.
    #[error("line {line} of the site's record: {source}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: EnvelopeError,
    },
    /// A statement that does not belong where it is.
    #[error(
        "line {line} of the site's record is a {kind} statement; site roots come first, then one bundle statement, then at most one withdrawal"
    )]
    Order {
        /// Counted from 1.
        line: usize,
        /// What the statement calls itself.
        kind: &'static str,
    },
    /// There is no site root.
    #[error("the site's record has no site root")]
    NoRoot,
    /// There is neither a bundle statement nor a withdrawal.
    #[error("the site's record has no bundle statement")]
    NoBundle,
}

/// The chain of site roots of a site, and what it says under the last of them. Having one says
/// nothing of whether it is true.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteRecord {
    roots: Vec<(Envelope, SiteRoot)>,
    bundle: Option<(Envelope, BundleStatement)>,
    withdrawal: Option<(Envelope, Withdrawal)>,
}

impl SiteRecord {
    /// Of these statements, in the order in which they were made.
    pub fn new(statements: impl IntoIterator<Item = Envelope>) -> Result<Self, RecordError> {
        let mut record = Self {
            roots: Vec::new(),
            bundle: None,
            withdrawal: None,
        };
        for (line, envelope) in (1..).zip(statements) {
            record.push(line, envelope)?;
        }
        if record.roots.is_empty() {
            return Err(RecordError::NoRoot);
        }
        match (&record.bundle, &record.withdrawal) {
            (None, None) => Err(RecordError::NoBundle),
            _ => Ok(record),
        }
    }

    /// The same with a withdrawal that came on another way, if the record has none of its own.
    pub fn with_withdrawal(mut self, envelope: Envelope) -> Option<Self> {
        let Statement::Withdrawal(withdrawal) = envelope.statement().clone() else {
            return None;
        };
        if self.withdrawal.is_some() {
            return None;
        }
        self.withdrawal = Some((envelope, withdrawal));
        Some(self)
    }

    fn push(&mut self, line: usize, envelope: Envelope) -> Result<(), RecordError> {
        let statement = envelope.statement().clone();
        let kind = statement.kind();
        match statement {
            Statement::SiteRoot(root) if self.bundle.is_none() && self.withdrawal.is_none() => {
                self.roots.push((envelope, root));
            }
            Statement::Bundle(bundle) if self.bundle.is_none() && self.withdrawal.is_none() => {
                self.bundle = Some((envelope, bundle));
            }
            Statement::Withdrawal(withdrawal) if self.withdrawal.is_none() => {
                self.withdrawal = Some((envelope, withdrawal));
            }
            _ => return Err(RecordError::Order { line, kind }),
        }
        Ok(())
    }

    /// Reads a record: an envelope a line.
    pub fn parse(bytes: &[u8]) -> Result<Self, RecordError> {
        if bytes.len() > MAX_RECORD_BYTES {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        let lines = bytes.split(|byte| *byte == b'\n');
        let lines = (1..).zip(lines).filter(|(_, text)| !text.is_empty());
        let read = |(line, text): (usize, &[u8])| {
            Envelope::parse(text).map_err(|source| RecordError::Line { line, source })
        };
        Self::new(lines.map(read).collect::<Result<Vec<_>, _>>()?)
    }

    /// As it is served.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        let roots = self.roots.iter().map(|(envelope, _)| envelope);
        let bundle = self.bundle.iter().map(|(envelope, _)| envelope);
        let withdrawal = self.withdrawal.iter().map(|(envelope, _)| envelope);
        let mut bytes = Vec::new();
        for envelope in roots.chain(bundle).chain(withdrawal) {
            bytes.extend(envelope.to_bytes());
            bytes.push(b'\n');
        }
        match bytes.len() {
            length if length > MAX_RECORD_BYTES => Err(RecordError::TooLarge(length)),
            _ => Ok(bytes),
        }
    }
}

/// Whom a peer must be: what its operator has handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The name of the peer.
    pub trust_domain: TrustDomain,
    /// The digest of its genesis.
    pub identity: Digest,
    /// The lowest version of its site root that counts.
    pub at_least: u64,
}

/// The newest that was seen of a site. Kept for as long as the site's identity may come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSeen {
    /// The highest version of the site root.
    pub root_version: u64,
    /// The digest of that version.
    pub head: Digest,
    /// The highest sequence of a bundle statement under that version; 0 when none was valid.
    pub sequence: u64,
    /// The digest of that bundle statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Digest>,
    /// The reason of the site's withdrawal, if it has withdrawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
}

/// What an accepted record means.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteNews {
    /// What is to be kept from now on.
    pub seen: SiteSeen,
    /// What the site says, or why nothing of it is valid at this time.
    pub standing: Result<Verified, Reason>,
}

impl SiteRecord {
    /// Verifies the record from the genesis on. `before` is what was seen of this identity, and
    /// `bundle` the bundle that was accepted then.
    pub fn verify(
        &self,
        pin: &Pin,
        before: Option<&SiteSeen>,
        bundle: Option<&Bundle>,
        now: OffsetDateTime,
    ) -> Result<SiteNews, SiteRefusal> {
        let mut chain = self.chain(pin)?;
        self.check_versions(&chain, pin, before)?;
        let mut seen = SiteSeen {
            root_version: chain.root.version,
            head: chain.head,
            sequence: 0,
            statement: None,
            withdrawn: before.and_then(|before| before.withdrawn.clone()),
        };
        let same_root = before.filter(|before| before.root_version == seen.root_version);
        if let Some(before) = same_root {
            (seen.sequence, seen.statement) = (before.sequence, before.statement);
        }
        if let Some((envelope, withdrawal)) = &self.withdrawal {
            about(pin, &withdrawal.trust_domain, withdrawal.genesis)?;
            chain.withdraw(envelope, withdrawal)?;
            seen.withdrawn = Some(withdrawal.reason.clone());
        }
        if let Some(why) = seen.withdrawn.clone() {
            let standing = Err(Reason::Withdrawn { why });
            return Ok(SiteNews { seen, standing });
        }
        let accepted = self.bundle(&chain, pin)?;
        check_sequence(&accepted, same_root, bundle)?;
        let (sequence, digest) = (accepted.statement.sequence, accepted.digest);
        chain.bundle = Some(accepted);
        let standing = valid_now(&chain, &pin.trust_domain, None, now);
        match &standing {
            Err(reason @ Reason::FromTheFuture { .. }) => {
                return Err(SiteRefusal::Time(reason.clone()));
            }
            Err(_) => {}
            Ok(_) => (seen.sequence, seen.statement) = (sequence, Some(digest)),
        }
        Ok(SiteNews { seen, standing })
    }

    fn chain(&self, pin: &Pin) -> Result<Chain, SiteRefusal> {
        let mut roots = self.roots.iter();
        let (first, genesis) = roots.next().ok_or(RecordError::NoRoot)?;
        let broken = |root: &SiteRoot, reason| SiteRefusal::Chain {
            version: root.version,
            reason,
        };
        let (expected, found) = (pin.identity, first.digest());
        if found != expected {
            return Err(SiteRefusal::OtherIdentity { expected, found });
        }
        if genesis.prev.is_some() {
            return Err(broken(genesis, StatementRefusal::NotTheNext));
        }
        if genesis.trust_domain != pin.trust_domain {
            return Err(SiteRefusal::ForeignDomain {
                expected: pin.trust_domain.clone(),
                owner: genesis.trust_domain.clone(),
            });
        }
        let begun = Chain::begin(first, genesis);
        let mut chain = begun.map_err(|reason| broken(genesis, reason))?;
        for (envelope, root) in roots {
            let followed = chain.follow(envelope, root);
            followed.map_err(|reason| broken(root, reason))?;
        }
        Ok(chain)
    }

    /// The version never falls, and one version is one site root.
    fn check_versions(
        &self,
        chain: &Chain,
        pin: &Pin,
        before: Option<&SiteSeen>,
    ) -> Result<(), SiteRefusal> {
        let (offered, at_least) = (chain.root.version, pin.at_least);
        if let Some(before) = before {
            let known = before.root_version;
            if offered < known {
                return Err(SiteRefusal::RootVersionFell { known, offered });
            }
            let mut roots = self.roots.iter();
            let same = roots.find(|(_, root)| root.version == known);
            if same.is_none_or(|(envelope, _)| envelope.digest() != before.head) {
                return Err(SiteRefusal::Forked { version: known });
            }
        }
        match offered < at_least {
            true => Err(SiteRefusal::Behind { offered, at_least }),
            false => Ok(()),
        }
    }

    fn bundle(&self, chain: &Chain, pin: &Pin) -> Result<Accepted, SiteRefusal> {
        let (envelope, statement) = self.bundle.as_ref().ok_or(RecordError::NoBundle)?;
        about(pin, &statement.trust_domain, statement.genesis)?;
        Ok(chain.verify_bundle(envelope, statement, 0)?)
    }
}

fn about(pin: &Pin, name: &TrustDomain, identity: Digest) -> Result<(), SiteRefusal> {
    match *name == pin.trust_domain && identity == pin.identity {
        true => Ok(()),
        false => Err(SiteRefusal::ForeignStatement {
            name: name.clone(),
            identity,
        }),
    }
}

/// Under one version of the site root neither the sequence of statements nor that of the bundle
/// in them falls. A new version may begin again: so the holder of a stolen online key, which that
/// version replaces, can use up no numbers.
fn check_sequence(
    offered: &Accepted,
    before: Option<&SiteSeen>,
    bundle: Option<&Bundle>,
) -> Result<(), SiteRefusal> {
    let Some(before) = before else { return Ok(()) };
    let (known, sequence) = (before.sequence, offered.statement.sequence);
    if sequence < known {
        let offered = sequence;
        return Err(SiteRefusal::SequenceFell { known, offered });
    }
    let another = before.statement.is_some_and(|it| it != offered.digest);
    if sequence == known && another {
        return Err(SiteRefusal::SameSequence { sequence });
    }
    match bundle.filter(|_| before.statement.is_some()) {
        Some(bundle) => Ok(bundle_follows(bundle, &offered.bundle)?),
        None => Ok(()),
    }
}
