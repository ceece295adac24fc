//! What the authority counts.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use renkei_api::status::{FederationStatus, PeerIdentityStatus};
use renkei_spiffe::{BundleEnd, TrustDomain};
use time::OffsetDateTime;

use crate::endpoint::RefusedClients;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    trust_domain: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    trust_domain: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

/// The metrics of the server role.
#[derive(Debug, Clone, Default)]
pub struct ServerMetrics {
    issued: Counter,
    refused: Counter,
    authority_end: Family<StateLabel, Gauge<i64>>,
    sequence: Gauge<u64, AtomicU64>,
    fetched: Family<PeerLabel, Gauge<i64>>,
    bundle_end: Family<PeerLabel, Gauge<i64>>,
    failures: Family<FailureLabels, Counter>,
    root_version: Family<PeerLabel, Gauge<u64, AtomicU64>>,
    statement: Family<PeerLabel, Gauge<u64, AtomicU64>>,
    statement_end: Family<PeerLabel, Gauge<i64>>,
    refused_clients: RefusedClients,
    federation: FederationMetrics,
}

/// The metrics of a federation.
#[derive(Debug, Clone, Default)]
struct FederationMetrics {
    members: Gauge<u64, AtomicU64>,
    excluded: Gauge<u64, AtomicU64>,
    alarms: Gauge<u64, AtomicU64>,
    entries: Gauge<u64, AtomicU64>,
    refused: Gauge<u64, AtomicU64>,
    witnessed: Gauge<i64>,
}

impl ServerMetrics {
    /// Registers them under `renkei_server_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let server = registry.sub_registry_with_prefix("renkei_server");
        server.register("svids_issued", "X.509-SVIDs issued", metrics.issued.clone());
        server.register(
            "svids_refused",
            "Requests for an SVID refused",
            metrics.refused.clone(),
        );
        server.register(
            "ca_end_timestamp_seconds",
            "When the CA of each state expires",
            metrics.authority_end.clone(),
        );
        server.register(
            "bundle_sequence",
            "Sequence of the own bundle",
            metrics.sequence.clone(),
        );
        server.register(
            "peer_bundle_fetched_timestamp_seconds",
            "When a good bundle of the peer was last fetched",
            metrics.fetched.clone(),
        );
        server.register(
            "peer_bundle_end_timestamp_seconds",
            "When the bundle of the peer that is in use expires",
            metrics.bundle_end.clone(),
        );
        server.register(
            "peer_bundle_failures",
            "Fetches of the peer's bundle that failed",
            metrics.failures.clone(),
        );
        server.register(
            "peer_root_version",
            "Highest version of the site root that was seen of a peer with an identity",
            metrics.root_version.clone(),
        );
        server.register(
            "peer_statement_sequence",
            "Highest sequence of a statement that was seen of a peer with an identity",
            metrics.statement.clone(),
        );
        server.register(
            "peer_statement_end_timestamp_seconds",
            "When the statement of a peer with an identity expires",
            metrics.statement_end.clone(),
        );
        server.register(
            "bundle_endpoint_refused",
            "Connections to the https_web bundle endpoint refused, by reason",
            metrics.refused_clients.clone(),
        );
        metrics.federation.register(server);
        metrics
    }

    pub(crate) fn federation(&self, status: &FederationStatus) {
        let count = |counts| {
            let members = status.members.iter();
            u64::try_from(members.filter(|m| m.counts == counts).count()).unwrap_or(u64::MAX)
        };
        let metrics = &self.federation;
        metrics.members.set(count(true));
        metrics.excluded.set(count(false));
        let alarms = u64::try_from(status.alarms.len()).unwrap_or(u64::MAX);
        metrics.alarms.set(alarms);
        metrics.entries.set(status.log.entries);
        metrics.refused.set(status.log.refused_in_all);
        let witnessed = status.log.witnessed_at;
        metrics
            .witnessed
            .set(witnessed.map_or(0, OffsetDateTime::unix_timestamp));
    }

    /// Where the https_web endpoint counts those that it refuses.
    pub(crate) fn refused_clients(&self) -> RefusedClients {
        self.refused_clients.clone()
    }

    pub(crate) fn issued(&self) {
        self.issued.inc();
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn bundle(
        &self,
        sequence: u64,
        ends: impl Iterator<Item = (&'static str, OffsetDateTime)>,
    ) {
        self.sequence.set(sequence);
        self.authority_end.clear();
        for (state, end) in ends {
            let end = end.unix_timestamp();
            self.authority_end
                .get_or_create(&StateLabel { state })
                .set(end);
        }
    }

    pub(crate) fn fetched(&self, trust_domain: &TrustDomain, at: OffsetDateTime) {
        let label = PeerLabel {
            trust_domain: trust_domain.to_string(),
        };
        self.fetched.get_or_create(&label).set(at.unix_timestamp());
    }

    pub(crate) fn bundle_end(&self, trust_domain: &TrustDomain, end: Option<BundleEnd>) {
        let label = PeerLabel {
            trust_domain: trust_domain.to_string(),
        };
        match end {
            Some(end) => drop(
                self.bundle_end
                    .get_or_create(&label)
                    .set(end.not_after.unix_timestamp()),
            ),
            None => drop(self.bundle_end.remove(&label)),
        }
    }

    /// What was seen of a peer that is known by its identity.
    pub(crate) fn peer_site(&self, trust_domain: &TrustDomain, status: &PeerIdentityStatus) {
        let label = PeerLabel {
            trust_domain: trust_domain.to_string(),
        };
        for (family, value) in [
            (&self.root_version, status.root_version),
            (&self.statement, status.sequence),
        ] {
            if let Some(value) = value {
                family.get_or_create(&label).set(value);
            }
        }
        match status.expires {
            Some(end) => drop(
                self.statement_end
                    .get_or_create(&label)
                    .set(end.unix_timestamp()),
            ),
            None => drop(self.statement_end.remove(&label)),
        }
    }

    pub(crate) fn fetch_failed(&self, trust_domain: &TrustDomain, reason: &'static str) {
        let labels = FailureLabels {
            trust_domain: trust_domain.to_string(),
            reason,
        };
        self.failures.get_or_create(&labels).inc();
    }

    pub(crate) fn forget_peer(&self, trust_domain: &TrustDomain) {
        let label = PeerLabel {
            trust_domain: trust_domain.to_string(),
        };
        self.fetched.remove(&label);
        self.bundle_end.remove(&label);
        self.root_version.remove(&label);
        self.statement.remove(&label);
        self.statement_end.remove(&label);
    }
}

impl FederationMetrics {
    fn register(&self, server: &mut Registry) {
        server.register(
            "federation_members",
            "Members of the federation that are valid",
            self.members.clone(),
        );
        server.register(
            "federation_excluded",
            "Trust domains of the federation that are not valid members",
            self.excluded.clone(),
        );
        server.register(
            "federation_alarms",
            "Alarms of the federation; renkei federation status shows them",
            self.alarms.clone(),
        );
        server.register(
            "federation_log_entries",
            "Entries of the federation's log that were seen",
            self.entries.clone(),
        );
        server.register(
            "federation_log_refused",
            "Entries of the federation's log that were refused",
            self.refused.clone(),
        );
        server.register(
            "federation_witnessed_timestamp_seconds",
            "The latest time at which a quorum of witnesses had cosigned",
            self.witnessed.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn what_happens_is_in_the_text_and_a_former_peer_is_not() {
        let mut registry = Registry::default();
        let metrics = ServerMetrics::register(&mut registry);
        let tokyo = TrustDomain::parse("tokyo.example").unwrap();
        let at = datetime!(2026-11-23 12:00 UTC);
        metrics.issued();
        metrics.bundle(7, [("active", at)].into_iter());
        metrics.fetched(&tokyo, at);
        metrics.fetch_failed(&tokyo, "timeout");
        let end = BundleEnd {
            not_before: at,
            not_after: at,
        };
        metrics.bundle_end(&tokyo, Some(end));
        let encoded = |registry: &Registry| {
            let mut out = String::new();
            text::encode(&mut out, registry).unwrap();
            out
        };
        let before = encoded(&registry);
        let fetched = "renkei_server_peer_bundle_fetched_timestamp_seconds{trust_domain=\"tokyo.example\"} 1795435200";
        let end = "renkei_server_peer_bundle_end_timestamp_seconds{trust_domain=\"tokyo.example\"} 1795435200";
        for line in [
            end,
            "renkei_server_svids_issued_total 1",
            "renkei_server_bundle_sequence 7",
            "renkei_server_ca_end_timestamp_seconds{state=\"active\"} 1795435200",
            "renkei_server_peer_bundle_failures_total{trust_domain=\"tokyo.example\",reason=\"timeout\"} 1",
            fetched,
        ] {
            assert!(
                before.lines().any(|l| l == line),
                "{line} is not in\n{before}"
            );
        }
        metrics.forget_peer(&tokyo);
        let after = encoded(&registry);
        assert!(!after.contains(fetched) && !after.contains(end), "{after}");
    }
}
