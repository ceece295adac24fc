//! Sites that are known by their identity, in `renkei status`, `check` and `explain`.

use renkei_api::status::{OwnIdentityStatus, PeerStatus};

use crate::output;

/// What was seen of a peer, in a few words; nothing for a peer without an identity.
pub(crate) fn seen(peer: &PeerStatus) -> Option<String> {
    let identity = peer.identity.as_ref()?;
    let Some(version) = identity.root_version else {
        return Some("not seen yet".to_owned());
    };
    let sequence = identity.sequence.unwrap_or_default();
    let mut text = format!("site root {version}, statement {sequence}");
    if let Some(at) = peer.last_success {
        text.push_str(&format!(", seen {}", output::since(at)));
    }
    if let Some(why) = &identity.withdrawn {
        text.push_str(&format!("; it has withdrawn: {why}"));
    }
    Some(text)
}

/// The line of this site itself in `renkei status`.
pub(crate) fn own(identity: &OwnIdentityStatus) -> String {
    let (digest, version) = (&identity.identity, identity.root_version);
    let end = match output::until(identity.root_expires).as_str() {
        "ended" => "expired: peers accept nothing of this site but the next version".to_owned(),
        left => format!("expires {left}"),
    };
    let text = format!("identity {digest}, site root {version} {end}");
    match &identity.fault {
        Some(fault) => format!("{text}; {fault}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use renkei_api::status::PeerIdentityStatus;
    use renkei_spiffe::TrustDomain;

    use super::*;

    #[test]
    fn what_was_seen_of_a_peer_is_said_in_a_few_words() {
        let mut peer = PeerStatus {
            trust_domain: TrustDomain::parse("osaka.example").unwrap(),
            profile: "identity".into(),
            source: String::new(),
            sequence: None,
            authorities: 0,
            bundle_end: None,
            last_success: None,
            last_error: None,
            next_fetch: None,
            identity: None,
        };
        assert_eq!(seen(&peer), None);
        peer.identity = Some(PeerIdentityStatus::default());
        assert_eq!(seen(&peer).unwrap(), "not seen yet");
        peer.identity = Some(PeerIdentityStatus {
            root_version: Some(2),
            sequence: Some(41),
            withdrawn: Some("keys are lost".to_owned()),
            ..Default::default()
        });
        let wanted = "site root 2, statement 41; it has withdrawn: keys are lost";
        assert_eq!(seen(&peer).unwrap(), wanted);
    }
}
