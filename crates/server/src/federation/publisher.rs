//! What this site says about itself: its bundle, where it is reached, what it offers; again every
//! day, and at once when something changes.

use std::collections::BTreeMap;

use renkei_federation::{BundleStatement, Digest, Envelope, TrustDomain};
use renkei_site::Announcement;
use time::{Duration, OffsetDateTime};

use super::{site_folder::OwnError, site_keys::SiteKeys};

/// How long a statement counts. A site that is down for longer falls out until it is back.
const LIFE: Duration = Duration::days(7);
/// How old a statement may grow.
const DAILY: Duration = Duration::hours(24);

/// The newest statement of this site: the last one, or another if that does not say it already.
pub(super) fn newest(
    own: &SiteKeys,
    announced: (&TrustDomain, &Announcement),
    document: &[u8],
    known_sequence: u64,
    now: OffsetDateTime,
) -> Result<Option<(Envelope, BundleStatement)>, OwnError> {
    let last = own
        .last()?
        .filter(|(_, last)| last.genesis == own.genesis());
    let said = last.as_ref().map(|(_, statement)| statement);
    let identity = (own.genesis(), own.head().version);
    match due(announced, document, identity, said, known_sequence, now) {
        Some(statement) => {
            let sequence = statement.sequence;
            tracing::info!(sequence, "publishes this site's statement again");
            Ok(Some((own.say(statement.clone())?, statement)))
        }
        None => Ok(last),
    }
}

/// The statement to make now, if the last one does not say it already.
fn due(
    (trust_domain, announced): (&TrustDomain, &Announcement),
    document: &[u8],
    identity: (Digest, u64),
    last: Option<&BundleStatement>,
    known_sequence: u64,
    now: OffsetDateTime,
) -> Option<BundleStatement> {
    let (genesis, root_version) = identity;
    // Of a site behind a hub, the hub's.
    let gateway = announced.gateway.as_ref().map(ToString::to_string);
    let services = announced.services.iter();
    let services: BTreeMap<String, String> = services
        .map(|(name, protocol)| (name.clone(), protocol.as_str().to_owned()))
        .collect();
    let sequence = last.map_or(0, |last| last.sequence).max(known_sequence);
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let wanted = BundleStatement {
        trust_domain: trust_domain.clone(),
        genesis,
        root_version,
        sequence: sequence.checked_add(1)?,
        bundle: serde_json::from_slice(document).ok()?,
        // A hub is asked for it by name, which a URL cannot say.
        bundle_endpoint: gateway
            .as_ref()
            .filter(|_| !announced.behind_hub)
            .map(|gateway| format!("https://{gateway}/")),
        gateways: gateway.into_iter().collect(),
        services,
        issued: now,
        expires: now + LIFE,
    };
    let said_already = last.is_some_and(|last| {
        let same = BundleStatement {
            sequence: last.sequence,
            issued: last.issued,
            expires: last.expires,
            ..wanted.clone()
        };
        // A clock that was set back makes statements from the future, which no site accepts.
        let age = now - last.issued;
        same == *last && age < DAILY && age > -DAILY && last.sequence >= known_sequence
    });
    (!said_already).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::fixtures::site_with;

    const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
    const DOCUMENT: &[u8] = br#"{"keys":[],"spiffe_sequence":1}"#;

    fn due_at(
        document: &[u8],
        last: Option<&BundleStatement>,
        known: u64,
        now: OffsetDateTime,
    ) -> Option<BundleStatement> {
        let identity = (Digest::of(b"genesis"), 1);
        let site = site_with("");
        let said = (&site.trust_domain, &site.announcement());
        due(said, document, identity, last, known, now)
    }

    #[test]
    fn a_site_says_what_it_is_daily_and_at_every_change() {
        let first = due_at(DOCUMENT, None, 0, NOW).unwrap();
        assert_eq!(first.sequence, 1);
        assert_eq!(first.gateways, ["127.0.0.1:8443"]);
        assert_eq!(first.services["broker"], "tcp");
        assert_eq!(first.expires, NOW + Duration::days(7));
        let hour = NOW + Duration::hours(1);
        assert_eq!(due_at(DOCUMENT, Some(&first), 1, hour), None);
        let rotated = br#"{"keys":[],"spiffe_sequence":2}"#;
        assert_eq!(due_at(rotated, Some(&first), 1, hour).unwrap().sequence, 2);
        let day = NOW + Duration::hours(24);
        assert_eq!(due_at(DOCUMENT, Some(&first), 1, day).unwrap().sequence, 2);
    }

    #[test]
    fn a_site_that_lost_its_memory_goes_on_after_what_the_log_knows() {
        assert_eq!(due_at(DOCUMENT, None, 41, NOW).unwrap().sequence, 42);
        let old = due_at(DOCUMENT, None, 0, NOW).unwrap();
        assert_eq!(due_at(DOCUMENT, Some(&old), 41, NOW).unwrap().sequence, 42);
    }
}
