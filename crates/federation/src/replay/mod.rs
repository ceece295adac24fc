//! The replay of the log: what every statement, in the log's order, makes of the federation.
//!
//! The same entries make the same state at every site, so nothing here asks for the time; what
//! has expired is for [`crate::members`]. A statement that does not count changes nothing and is
//! remembered with its reason.

mod chain;
mod refusal;

use std::collections::{BTreeMap, VecDeque};

use renkei_spiffe::TrustDomain;

pub(crate) use chain::bundle_follows;
pub use chain::{Accepted, Chain};
pub use refusal::StatementRefusal;

use crate::{Admission, Digest, Envelope, Federation, SiteRoot, Statement};

/// More identities than any federation has; a registry that logs more is not one's friend.
const MAX_IDENTITIES: usize = 100_000;
const REMEMBERED: usize = 64;

/// An entry that did not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Where in the log.
    pub index: u64,
    /// What it called itself, when it could be read.
    pub kind: Option<&'static str>,
    /// Whom it claimed to be about.
    pub trust_domain: Option<TrustDomain>,
    /// The reason for the refusal.
    pub reason: StatementRefusal,
}

/// The federation as the log shows it.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Every identity, by the digest of its genesis.
    chains: BTreeMap<Digest, Chain>,
    /// The genesis of every current version, by that version's digest.
    heads: BTreeMap<Digest, Digest>,
    /// The registrar's last word on each name.
    admissions: BTreeMap<TrustDomain, Admission>,
    refused: VecDeque<Refused>,
    refused_in_all: u64,
}

impl State {
    /// Takes one entry of the log.
    pub fn apply(&mut self, federation: &Federation, index: u64, entry: &[u8]) {
        let envelope = match Envelope::parse(entry) {
            Ok(envelope) => envelope,
            Err(error) => return self.refuse(index, None, error.into()),
        };
        if let Err(reason) = self.judge(federation, index, &envelope) {
            self.refuse(index, Some(envelope.statement()), reason);
        }
    }

    /// Takes a statement, or says why it does not count; nothing has changed then.
    pub fn judge(
        &mut self,
        federation: &Federation,
        index: u64,
        envelope: &Envelope,
    ) -> Result<(), StatementRefusal> {
        match envelope.statement() {
            Statement::SiteRoot(root) => match root.prev {
                None => self.begin(envelope, root),
                Some(head) => self.follow(head, envelope, root),
            },
            Statement::Bundle(bundle) => {
                let chain = self.chain_of(&bundle.trust_domain, bundle.genesis)?;
                chain.take_bundle(envelope, bundle, index)
            }
            Statement::Admission(admission) => self.admit(federation, envelope, admission),
            Statement::Withdrawal(withdrawal) => {
                let chain = self.chain_of(&withdrawal.trust_domain, withdrawal.genesis)?;
                chain.withdraw(envelope, withdrawal)
            }
            Statement::Endorsement(endorsement) => {
                let by = endorsement.by;
                let newcomer = (endorsement.trust_domain.clone(), endorsement.genesis);
                let chain = self.chains.get_mut(&by);
                chain
                    .ok_or(StatementRefusal::UnknownGenesis(by))?
                    .endorse(envelope, newcomer)
            }
        }
    }

    fn begin(&mut self, envelope: &Envelope, root: &SiteRoot) -> Result<(), StatementRefusal> {
        let genesis = envelope.digest();
        if self.chains.contains_key(&genesis) {
            return Err(StatementRefusal::Repeated);
        }
        if self.chains.len() >= MAX_IDENTITIES {
            return Err(StatementRefusal::TooMany("identities"));
        }
        self.chains.insert(genesis, Chain::begin(envelope, root)?);
        self.heads.insert(genesis, genesis);
        Ok(())
    }

    fn follow(
        &mut self,
        head: Digest,
        envelope: &Envelope,
        root: &SiteRoot,
    ) -> Result<(), StatementRefusal> {
        let genesis = *self.heads.get(&head).ok_or(StatementRefusal::NotTheNext)?;
        let chain = self
            .chains
            .get_mut(&genesis)
            .ok_or(StatementRefusal::NotTheNext)?;
        chain.follow(envelope, root)?;
        self.heads.remove(&head);
        self.heads.insert(envelope.digest(), genesis);
        Ok(())
    }

    /// The chain of an identity, under its own name only.
    fn chain_of(
        &mut self,
        name: &TrustDomain,
        genesis: Digest,
    ) -> Result<&mut Chain, StatementRefusal> {
        let chain = self.chains.get_mut(&genesis);
        let chain = chain.ok_or(StatementRefusal::UnknownGenesis(genesis))?;
        match &chain.root.trust_domain {
            owner if owner == name => Ok(chain),
            owner => Err(StatementRefusal::Relabelled {
                genesis,
                name: owner.clone(),
            }),
        }
    }

    fn admit(
        &mut self,
        federation: &Federation,
        envelope: &Envelope,
        admission: &Admission,
    ) -> Result<(), StatementRefusal> {
        if !envelope.is_signed_by(&federation.registrar) {
            return Err(StatementRefusal::Signature("the registrar"));
        }
        if !admission.is_in_scope() {
            return Err(StatementRefusal::OutOfScope);
        }
        if let Some(chain) = self.chains.get(&admission.genesis)
            && chain.root.trust_domain != admission.trust_domain
        {
            return Err(StatementRefusal::Relabelled {
                genesis: admission.genesis,
                name: chain.root.trust_domain.clone(),
            });
        }
        let name = &admission.trust_domain;
        if let Some(before) = self.admissions.get(name) {
            // Else an old "admitted" in the log once more would undo a suspension.
            if admission.issued <= before.issued {
                return Err(StatementRefusal::Outdated);
            }
            if before.genesis != admission.genesis && self.holds_name(before) {
                return Err(StatementRefusal::NameTaken(before.genesis));
            }
        } else if self.admissions.len() >= MAX_IDENTITIES {
            return Err(StatementRefusal::TooMany("admissions"));
        }
        self.admissions.insert(name.clone(), admission.clone());
        Ok(())
    }

    /// A name belongs to the identity that was admitted under it, whatever the registrar says
    /// later, until its owner withdraws; else a registrar could put itself in a site's place. An
    /// identity of which nothing is in the log has nothing to lose.
    fn holds_name(&self, admission: &Admission) -> bool {
        let chain = self.chains.get(&admission.genesis);
        chain.is_some_and(|chain| chain.withdrawn.is_none())
    }

    fn refuse(&mut self, index: u64, statement: Option<&Statement>, reason: StatementRefusal) {
        self.refused_in_all = self.refused_in_all.saturating_add(1);
        if self.refused.len() == REMEMBERED {
            self.refused.pop_front();
        }
        self.refused.push_back(Refused {
            index,
            kind: statement.map(Statement::kind),
            trust_domain: statement.map(|statement| statement.trust_domain().clone()),
            reason,
        });
    }

    /// The chain of site roots of an identity, if the log has it.
    pub fn chain(&self, genesis: &Digest) -> Option<&Chain> {
        self.chains.get(genesis)
    }

    /// Every identity with its genesis.
    pub fn chains(&self) -> impl Iterator<Item = (&Digest, &Chain)> {
        self.chains.iter()
    }

    /// The registrar's last word on each name.
    pub fn admissions(&self) -> &BTreeMap<TrustDomain, Admission> {
        &self.admissions
    }

    /// The last entries that did not count, the oldest first.
    pub fn refused(&self) -> impl Iterator<Item = &Refused> {
        self.refused.iter()
    }

    /// How many entries did not count.
    pub fn refused_in_all(&self) -> u64 {
        self.refused_in_all
    }
}
