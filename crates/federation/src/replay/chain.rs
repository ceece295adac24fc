//! One site as the log knows it: from its genesis, version by version, to its newest bundle.

use std::collections::{BTreeSet, VecDeque};

use renkei_spiffe::{Bundle, TrustDomain};

use super::StatementRefusal;
use crate::{BundleStatement, Digest, Envelope, PublicKey, SiteRoot, Withdrawal};

/// A sequence that jumps by more was made by an attacker who wants to leave no later number.
const MAX_JUMP: u64 = 1_000_000;
/// So many statements of a site are remembered for the site itself to recognise.
const REMEMBERED: usize = 16;
const MAX_ENDORSEMENTS: usize = 1_000;

/// The newest bundle statement that was accepted.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// The statement itself, whose signatures were verified.
    pub statement: BundleStatement,
    /// The SPIFFE bundle in it.
    pub bundle: Bundle,
    /// The online keys that signed it.
    pub signers: Vec<PublicKey>,
    /// Where in the log it is.
    pub index: u64,
    /// The digest of its payload.
    pub digest: Digest,
}

/// The site roots of one identity, each signed by the one before, and its newest bundle.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    /// The site root in force, the last of the chain.
    pub root: SiteRoot,
    /// The digest of the newest site root.
    pub head: Digest,
    /// The accepted bundle statement with the highest sequence.
    pub bundle: Option<Accepted>,
    /// Where its last bundle statements under this version are, and their digests.
    pub recent: VecDeque<(u64, Digest)>,
    /// The site's own end.
    pub withdrawn: Option<Withdrawal>,
    /// Whom it has endorsed.
    pub endorsed: BTreeSet<(TrustDomain, Digest)>,
}

impl Chain {
    pub(crate) fn begin(envelope: &Envelope, root: &SiteRoot) -> Result<Self, StatementRefusal> {
        if !envelope.is_signed_by(&root.root) {
            return Err(StatementRefusal::Signature("its own root keys"));
        }
        Ok(Self {
            root: root.clone(),
            head: envelope.digest(),
            bundle: None,
            recent: VecDeque::new(),
            withdrawn: None,
            endorsed: BTreeSet::new(),
        })
    }

    /// The next version: exactly one up, signed by the root keys of both versions.
    pub(crate) fn follow(
        &mut self,
        envelope: &Envelope,
        root: &SiteRoot,
    ) -> Result<(), StatementRefusal> {
        self.is_alive()?;
        if root.prev != Some(self.head) || Some(root.version) != self.root.version.checked_add(1) {
            return Err(StatementRefusal::NotTheNext);
        }
        if root.trust_domain != self.root.trust_domain {
            return Err(StatementRefusal::NotTheNext);
        }
        if !envelope.is_signed_by(&self.root.root) {
            return Err(StatementRefusal::Signature(
                "the root keys of the version before",
            ));
        }
        if !envelope.is_signed_by(&root.root) {
            return Err(StatementRefusal::Signature("its own root keys"));
        }
        self.root = root.clone();
        self.head = envelope.digest();
        // Who makes a new version by hand has looked at what was said before.
        self.recent.clear();
        Ok(())
    }

    pub(super) fn take_bundle(
        &mut self,
        envelope: &Envelope,
        statement: &BundleStatement,
        index: u64,
    ) -> Result<(), StatementRefusal> {
        let accepted = self.verify_bundle(envelope, statement, index)?;
        let known = self.bundle.as_ref().map_or(0, |b| b.statement.sequence);
        let offered = statement.sequence;
        if offered <= known || offered - known > MAX_JUMP {
            return Err(StatementRefusal::Sequence { known, offered });
        }
        let before = self.bundle.as_ref();
        let before = before.filter(|b| b.statement.root_version == statement.root_version);
        if let Some(before) = before {
            bundle_follows(&before.bundle, &accepted.bundle)?;
        }
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((index, envelope.digest()));
        self.bundle = Some(accepted);
        Ok(())
    }

    /// What a bundle statement says, if an online key of the site root in force has signed it.
    /// Whether it is newer than what is known is for the caller.
    pub(crate) fn verify_bundle(
        &self,
        envelope: &Envelope,
        statement: &BundleStatement,
        index: u64,
    ) -> Result<Accepted, StatementRefusal> {
        self.is_alive()?;
        let current = self.root.version;
        if statement.root_version != current {
            let said = statement.root_version;
            return Err(StatementRefusal::RootVersion { said, current });
        }
        let signers = envelope.signers(&self.root.online_keys);
        if signers.is_empty() {
            return Err(StatementRefusal::Signature("an online key of the site"));
        }
        // A document of JSON values is written back without loss.
        let document = statement.bundle.to_string();
        let bundle = Bundle::parse_document(statement.trust_domain.clone(), document.as_bytes())?;
        Ok(Accepted {
            statement: statement.clone(),
            bundle,
            signers,
            index,
            digest: envelope.digest(),
        })
    }

    pub(crate) fn withdraw(
        &mut self,
        envelope: &Envelope,
        withdrawal: &Withdrawal,
    ) -> Result<(), StatementRefusal> {
        let by_root = envelope.is_signed_by(&self.root.root);
        if !by_root && envelope.signers(&self.root.recovery_keys).is_empty() {
            return Err(StatementRefusal::Signature(
                "the site's root or recovery keys",
            ));
        }
        self.withdrawn = Some(withdrawal.clone());
        Ok(())
    }

    pub(super) fn endorse(
        &mut self,
        envelope: &Envelope,
        newcomer: (TrustDomain, Digest),
    ) -> Result<(), StatementRefusal> {
        self.is_alive()?;
        if envelope.signers(&self.root.online_keys).is_empty() {
            return Err(StatementRefusal::Signature("an online key of the member"));
        }
        if self.endorsed.len() >= MAX_ENDORSEMENTS {
            return Err(StatementRefusal::TooMany("endorsements by this member"));
        }
        self.endorsed.insert(newcomer);
        Ok(())
    }

    fn is_alive(&self) -> Result<(), StatementRefusal> {
        match self.withdrawn {
            Some(_) => Err(StatementRefusal::Withdrawn),
            None => Ok(()),
        }
    }
}

/// Within one version of the site root the bundle's own sequence never falls, and one number is
/// one content. A new version, signed by root keys, may begin again.
pub(crate) fn bundle_follows(known: &Bundle, offered: &Bundle) -> Result<(), StatementRefusal> {
    let same = known.x509_authorities == offered.x509_authorities
        && known.jwt_authorities == offered.jwt_authorities;
    match offered.sequence.cmp(&known.sequence) {
        std::cmp::Ordering::Greater => Ok(()),
        std::cmp::Ordering::Equal if same => Ok(()),
        _ => Err(StatementRefusal::BundleSequence {
            known: known.sequence,
            offered: offered.sequence,
        }),
    }
}
