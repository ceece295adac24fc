//! What the agent counts.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::{ConstGauge, Gauge},
    },
    registry::Registry,
};
use renkei_grpc::ConnectionMetrics;
use renkei_runtime::telemetry::Counted;
use renkei_spiffe::Identities;
use tokio::sync::watch;

/// Why a caller got nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// Without the metadata `workload.spiffe.io: true`, or with an empty argument.
    BadRequest,
    /// No workload's selectors match the process.
    NoIdentity,
    /// The kernel does not say who the process is, or it cannot be examined.
    NotAttested,
    /// The process that opened the connection has ended.
    ProcessEnded,
    /// Too many connections at once.
    TooManyConnections,
    /// Too many streams at once on one connection.
    TooManyStreams,
}

impl Denial {
    const ALL: [Self; 6] = [
        Self::BadRequest,
        Self::NoIdentity,
        Self::NotAttested,
        Self::ProcessEnded,
        Self::TooManyConnections,
        Self::TooManyStreams,
    ];

    /// A short, stable name.
    pub fn label(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NoIdentity => "no_identity",
            Self::NotAttested => "not_attested",
            Self::ProcessEnded => "process_ended",
            Self::TooManyConnections => "too_many_connections",
            Self::TooManyStreams => "too_many_streams",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DenialLabels {
    reason: &'static str,
}

/// Counters of one agent; clones count together.
#[derive(Debug, Clone, Default)]
pub struct AgentMetrics {
    issued: Counter,
    renewals: Counter,
    issue_failures: Counter,
    denials: Family<DenialLabels, Counter>,
    connections: Gauge,
    subscribers: Gauge,
}

impl AgentMetrics {
    /// Puts all of them into a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("renkei_agent");
        registry.register("svids_issued", "SVIDs obtained", self.issued.clone());
        registry.register(
            "svid_renewals",
            "SVIDs that replaced one",
            self.renewals.clone(),
        );
        registry.register(
            "svid_failures",
            "SVID requests that failed",
            self.issue_failures.clone(),
        );
        let denials = "Workload API callers that got nothing";
        registry.register("workload_api_denials", denials, self.denials.clone());
        let connections = "Open Workload API connections";
        registry.register(
            "workload_api_connections",
            connections,
            self.connections.clone(),
        );
        let streams = "Open Workload API streams";
        registry.register("workload_api_streams", streams, self.subscribers.clone());
    }

    pub(crate) fn issued(&self, is_renewal: bool) {
        self.issued.inc();
        self.renewals.inc_by(is_renewal.into());
    }

    pub(crate) fn issue_failed(&self) {
        self.issue_failures.inc();
    }

    pub(crate) fn denied(&self, reason: Denial) {
        self.denials
            .get_or_create(&DenialLabels {
                reason: reason.label(),
            })
            .inc();
    }

    pub(crate) fn subscriber(&self) -> Counted {
        Counted::new(&self.subscribers)
    }

    /// For the socket of the Workload API.
    pub(crate) fn connections(&self) -> ConnectionMetrics {
        let counter = |denial: Denial| {
            let labels = DenialLabels {
                reason: denial.label(),
            };
            self.denials.get_or_create(&labels).clone()
        };
        ConnectionMetrics {
            open: self.connections.clone(),
            refused: counter(Denial::TooManyConnections),
            refused_streams: counter(Denial::TooManyStreams),
        }
    }

    /// SVIDs that replaced one of the same ID.
    pub fn renewals(&self) -> u64 {
        self.renewals.get()
    }

    /// Number of open Workload API streams.
    pub fn subscribers(&self) -> u64 {
        self.subscribers.get().try_into().unwrap_or_default()
    }

    /// Denials by the label of their reason; those that never happened are left out.
    pub fn denials(&self) -> BTreeMap<Cow<'static, str>, u64> {
        let count = |denial: Denial| {
            let labels = DenialLabels {
                reason: denial.label(),
            };
            (
                denial.label().into(),
                self.denials.get(&labels).map_or(0, |counter| counter.get()),
            )
        };
        Denial::ALL
            .into_iter()
            .map(count)
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// When each SVID of this process expires, from any issuer; read when metrics are read.
#[derive(Debug)]
pub struct SvidEnds(pub watch::Receiver<Arc<Identities>>);

impl Collector for SvidEnds {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let name = "renkei_svid_end_timestamp_seconds";
        let help = "When the X.509-SVID ends, in seconds since 1970.";
        let mut family = out.encode_descriptor(name, help, None, MetricType::Gauge)?;
        let identities = self.0.borrow().clone();
        identities.svids.iter().try_for_each(|(id, svid)| {
            let labels = [("spiffe_id", id.to_string())];
            let end = ConstGauge::new(svid.not_after().unix_timestamp());
            end.encode(family.encode_family(&labels)?)
        })
    }
}
