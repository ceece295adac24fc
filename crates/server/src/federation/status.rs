//! What a site reports of its federation.

use renkei_api::status::{LogStatus, MemberStatus, RefusedStatus};
use renkei_federation::{Member, TrustDomain, View};
use time::OffsetDateTime;

/// The log as a view has it.
pub fn log_status(view: &View, now: OffsetDateTime) -> LogStatus {
    let federation = view.federation();
    let basis = view.basis();
    let seen = basis.map(|basis| basis.checkpoint.cosigned_by(federation, now));
    let seen = seen.unwrap_or_default();
    let when = |name: &TrustDomain| seen.get(name).and_then(rfc3339);
    let names = federation.witnesses.keys.keys();
    let refused = view.state().refused().map(|refused| RefusedStatus {
        entry: refused.index,
        kind: refused.kind.map(Into::into),
        trust_domain: refused.trust_domain.clone(),
        reason: plain(&refused.reason.to_string()),
    });
    let witnessed_at = basis.map(|basis| basis.witnessed_at);
    LogStatus {
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

/// What strangers have logged is repeated without characters that a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

fn rfc3339(time: &OffsetDateTime) -> Option<String> {
    time.format(&time::format_description::well_known::Rfc3339)
        .ok()
}

/// A member, or why it is not valid.
pub fn member_status(member: &Member) -> MemberStatus {
    let good = member.standing.as_ref().ok();
    let reason = member.standing.as_ref().err();
    MemberStatus {
        trust_domain: member.trust_domain.clone(),
        identity: member.genesis.to_string(),
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
