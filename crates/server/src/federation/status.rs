//! What `renkei federation status` shows.

use std::collections::{BTreeMap, BTreeSet};

use renkei_federation::{Digest, Member, TrustDomain, View};
use serde::Serialize;
use time::OffsetDateTime;

/// A federation as one site sees it.
#[derive(Debug, Clone, Serialize)]
pub struct FederationStatus {
    /// Its name.
    pub name: String,
    /// The name of its log.
    pub origin: String,
    /// This site's identity, once it has joined.
    pub identity: Option<Digest>,
    /// The log.
    #[serde(flatten)]
    pub log: LogStatus,
    /// Where it is read.
    pub mirrors: Vec<MirrorStatus>,
    /// Who counts, and why the others do not.
    pub members: Vec<MemberStatus>,
    /// What this site says about itself.
    pub publishing: Publishing,
    /// Whether this site cosigns checkpoints, or why not.
    pub witnessing: Option<String>,
    /// What somebody has to look at now.
    pub alarms: Vec<String>,
}

/// The log as it was seen.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LogStatus {
    /// Entries seen.
    pub entries: u64,
    /// Entries that a quorum of witnesses has seen.
    pub witnessed: u64,
    /// The time that the quorum vouches for.
    #[serde(with = "time::serde::rfc3339::option")]
    pub witnessed_at: Option<OffsetDateTime>,
    /// That time is too long ago; what is known goes on counting until it ends.
    pub stale: bool,
    /// How many witnesses make a quorum.
    pub quorum: usize,
    /// Every witness, and when it has cosigned the checkpoint that counts.
    pub witnesses: BTreeMap<TrustDomain, Option<String>>,
    /// The last entries that did not count.
    pub refused: Vec<RefusedStatus>,
    /// How many did not count.
    pub refused_in_all: u64,
}

/// An entry that did not count.
#[derive(Debug, Clone, Serialize)]
pub struct RefusedStatus {
    /// Where in the log.
    pub entry: u64,
    /// What it called itself.
    pub kind: Option<&'static str>,
    /// Whom it claimed to be about.
    pub trust_domain: Option<TrustDomain>,
    /// Why.
    pub reason: String,
}

/// A mirror.
#[derive(Debug, Clone, Serialize)]
pub struct MirrorStatus {
    /// The URL or folder.
    pub mirror: String,
    /// When it was last read without fault.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_success: Option<OffsetDateTime>,
    /// What is wrong with it now.
    pub fault: Option<String>,
}

/// A member, or one that does not count.
#[derive(Debug, Clone, Serialize)]
pub struct MemberStatus {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// The identity that the name stands for.
    pub identity: Digest,
    /// Whether it counts.
    pub counts: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Of its newest bundle statement.
    pub sequence: Option<u64>,
    /// Of its site root.
    pub root_version: Option<u64>,
    /// When what is known of it ends.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// Where it is reached.
    pub gateways: Vec<String>,
    /// What it offers, with protocols.
    pub services: BTreeMap<String, String>,
    /// Members who know it.
    pub endorsed_by: BTreeSet<TrustDomain>,
}

/// What this site says about itself.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Publishing {
    /// Of its newest statement.
    pub sequence: Option<u64>,
    /// Whether witnesses have seen it.
    pub witnessed: bool,
    /// Why it is not handed in.
    pub fault: Option<String>,
}

impl LogStatus {
    /// Of a view.
    pub fn of(view: &View, now: OffsetDateTime) -> Self {
        let federation = view.federation();
        let basis = view.basis();
        let seen = basis.map(|basis| basis.checkpoint.cosigned_by(federation, now));
        let seen = seen.unwrap_or_default();
        let when = |name: &TrustDomain| seen.get(name).and_then(rfc3339);
        let names = federation.witnesses.keys.keys();
        let refused = view.state().refused().map(|refused| RefusedStatus {
            entry: refused.index,
            kind: refused.kind,
            trust_domain: refused.trust_domain.clone(),
            reason: plain(&refused.reason.to_string()),
        });
        let witnessed_at = basis.map(|basis| basis.witnessed_at);
        Self {
            entries: view.size(),
            witnessed: basis.map_or(0, |basis| basis.checkpoint.root().size),
            witnessed_at,
            stale: witnessed_at.is_none_or(|at| now - at > renkei_federation::FRESHNESS),
            quorum: federation.witnesses.quorum,
            witnesses: names.map(|name| (name.clone(), when(name))).collect(),
            refused: refused.collect(),
            refused_in_all: view.state().refused_in_all(),
        }
    }
}

/// What strangers have logged is repeated without characters that a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

fn rfc3339(time: &OffsetDateTime) -> Option<String> {
    time.format(&time::format_description::well_known::Rfc3339)
        .ok()
}

impl From<&Member> for MemberStatus {
    fn from(member: &Member) -> Self {
        let good = member.standing.as_ref().ok();
        let reason = member.standing.as_ref().err();
        Self {
            trust_domain: member.trust_domain.clone(),
            identity: member.genesis,
            counts: good.is_some(),
            reason: reason.map(ToString::to_string),
            sequence: good.map(|good| good.sequence),
            root_version: good.map(|good| good.root_version),
            expires: good.map(|good| good.expires),
            gateways: good.map(|good| good.gateways.clone()).unwrap_or_default(),
            services: good.map(|good| good.services.clone()).unwrap_or_default(),
            endorsed_by: member.endorsed_by.clone(),
        }
    }
}
