//! Who counts as a member at one moment, and why the others do not.

use std::collections::{BTreeMap, BTreeSet};

use renkei_spiffe::{Bundle, TrustDomain};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    AdmissionStatus, Digest,
    replay::{Chain, State},
};

/// A statement from further in the future was made by a clock that is wrong.
const CLOCK_SKEW: time::Duration = time::Duration::minutes(10);

/// What this site alone decides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Local {
    /// Never members, although a statement says so.
    pub deny: BTreeSet<TrustDomain>,
    /// When there, these are the members, and the registrar is not asked.
    pub allow: Option<BTreeMap<TrustDomain, Digest>>,
}

/// Why a trust domain does not count as a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// This site's own list.
    #[error("this site denies it")]
    DeniedHere,
    /// It has not been admitted.
    #[error("it is not admitted")]
    NotAdmitted,
    /// The registrar has suspended it.
    #[error("the registrar has suspended it")]
    Suspended,
    /// The registrar has removed it.
    #[error("the registrar has removed it")]
    Removed,
    /// Its admission has ended.
    #[error("its admission expired at {at}")]
    AdmissionExpired {
        /// The end of the admission.
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
    /// The admitted identity is not in the log.
    #[error("no site root of its identity {} is in the log yet", genesis.short())]
    NoRoot {
        /// The identity that the registrar admitted.
        genesis: Digest,
    },
    /// The identity is another's.
    #[error("the admitted identity belongs to {owner}")]
    Relabelled {
        /// The trust domain that has the identity.
        owner: TrustDomain,
    },
    /// The site withdrew itself with its recovery key.
    #[error("it has withdrawn: {why}")]
    Withdrawn {
        /// The reason that the site gave.
        why: String,
    },
    /// Its site root has ended.
    #[error("its site root expired at {at}")]
    RootExpired {
        /// The end of the site root.
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
    /// It has not published a bundle.
    #[error("it has published no bundle yet")]
    NoBundle,
    /// Its newest bundle is signed by a key that is not its online key any longer.
    #[error("its newest bundle is signed by an online key that it has replaced")]
    OnlineKeyReplaced,
    /// Its newest bundle has ended.
    #[error("its newest bundle statement expired at {at}")]
    BundleExpired {
        /// The end of the bundle statement.
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
    /// Its newest bundle is from the future.
    #[error("its newest bundle statement is dated {at}: its clock or this host's is wrong")]
    FromTheFuture {
        /// The time at which the statement was issued.
        #[serde(with = "time::serde::rfc3339")]
        at: OffsetDateTime,
    },
}

/// What a member's verified statements say.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// The bundle of its newest statement that verifies.
    pub bundle: Bundle,
    /// Where it is reached, as HOST:PORT.
    pub gateways: Vec<String>,
    /// What it offers: names and protocols.
    pub services: BTreeMap<String, String>,
    /// Of its newest bundle statement.
    pub sequence: u64,
    /// Of its site root.
    pub root_version: u64,
    /// When the first of bundle statement, site root and admission ends.
    pub expires: OffsetDateTime,
}

/// A trust domain that the federation knows of.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// The trust domain of the member.
    pub trust_domain: TrustDomain,
    /// The identity that has the name.
    pub genesis: Digest,
    /// Members who have endorsed that identity.
    pub endorsed_by: BTreeSet<TrustDomain>,
    /// What it says, or why it does not count.
    pub standing: Result<Verified, Reason>,
}

/// Every trust domain that is or was admitted, by name.
pub fn members(state: &State, local: &Local, now: OffsetDateTime) -> BTreeMap<TrustDomain, Member> {
    let by_registrar = state.admissions();
    let named: BTreeMap<&TrustDomain, Digest> = match &local.allow {
        Some(allow) => allow
            .iter()
            .map(|(name, genesis)| (name, *genesis))
            .collect(),
        None => {
            let entries = by_registrar.iter();
            entries.map(|(name, word)| (name, word.genesis)).collect()
        }
    };
    let mut endorsers = endorsers(state);
    let member = |(name, genesis): (&TrustDomain, Digest)| Member {
        trust_domain: name.clone(),
        genesis,
        endorsed_by: endorsers
            .remove(&(name.clone(), genesis))
            .unwrap_or_default(),
        standing: standing(state, local, name, genesis, now),
    };
    let members = named.into_iter().map(member);
    members
        .map(|member| (member.trust_domain.clone(), member))
        .collect()
}

/// Who has endorsed whom.
fn endorsers(state: &State) -> BTreeMap<(TrustDomain, Digest), BTreeSet<TrustDomain>> {
    let mut endorsers: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (_, chain) in state.chains() {
        for newcomer in &chain.endorsed {
            let by = endorsers.entry(newcomer.clone()).or_default();
            by.insert(chain.root.trust_domain.clone());
        }
    }
    endorsers
}

/// Rule by rule, the first that fails is the reason.
fn standing(
    state: &State,
    local: &Local,
    name: &TrustDomain,
    genesis: Digest,
    now: OffsetDateTime,
) -> Result<Verified, Reason> {
    if local.deny.contains(name) {
        return Err(Reason::DeniedHere);
    }
    let admitted_until = match local.allow {
        Some(_) => None,
        None => Some(admitted_until(state, name, now)?),
    };
    let chain = state.chain(&genesis).ok_or(Reason::NoRoot { genesis })?;
    valid_now(chain, name, admitted_until, now)
}

/// Whether the site root in force and the newest bundle of a site are valid now, whether a log or
/// the site itself shows them.
pub(crate) fn valid_now(
    chain: &Chain,
    name: &TrustDomain,
    admitted_until: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<Verified, Reason> {
    if chain.root.trust_domain != *name {
        let owner = chain.root.trust_domain.clone();
        return Err(Reason::Relabelled { owner });
    }
    if let Some(withdrawal) = &chain.withdrawn {
        let why = withdrawal.reason.clone();
        return Err(Reason::Withdrawn { why });
    }
    let root_ends = chain.root.expires;
    if now >= root_ends {
        return Err(Reason::RootExpired { at: root_ends });
    }
    let newest = chain.bundle.as_ref().ok_or(Reason::NoBundle)?;
    let online = &chain.root.online_keys;
    if !newest.signers.iter().any(|key| online.contains(key)) {
        return Err(Reason::OnlineKeyReplaced);
    }
    let statement = &newest.statement;
    if now >= statement.expires {
        let at = statement.expires;
        return Err(Reason::BundleExpired { at });
    }
    if statement.issued > now + CLOCK_SKEW {
        let at = statement.issued;
        return Err(Reason::FromTheFuture { at });
    }
    let ends = [Some(statement.expires), Some(root_ends), admitted_until];
    Ok(Verified {
        bundle: newest.bundle.clone(),
        gateways: statement.gateways.clone(),
        services: statement.services.clone(),
        sequence: statement.sequence,
        root_version: chain.root.version,
        expires: ends
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(statement.expires),
    })
}

fn admitted_until(
    state: &State,
    name: &TrustDomain,
    now: OffsetDateTime,
) -> Result<OffsetDateTime, Reason> {
    let word = state.admissions().get(name).ok_or(Reason::NotAdmitted)?;
    match word.status {
        AdmissionStatus::Suspended => Err(Reason::Suspended),
        AdmissionStatus::Removed => Err(Reason::Removed),
        AdmissionStatus::Admitted if now >= word.expires => {
            Err(Reason::AdmissionExpired { at: word.expires })
        }
        AdmissionStatus::Admitted => Ok(word.expires),
    }
}
