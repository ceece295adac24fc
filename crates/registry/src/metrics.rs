//! What a registry counts.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry as Metrics,
};

/// Which limit of an address was reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refusal {
    /// It handed in more than the rate limit allows; the answer was 429.
    Rate,
    /// It has its share of the connections; another one was closed.
    Connection,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Label {
    reason: &'static str,
}

impl Refusal {
    fn label(self) -> Label {
        let reason = match self {
            Self::Rate => "rate_limit",
            Self::Connection => "address_limit",
        };
        Label { reason }
    }
}

/// Counters of a registry; clones are the same counters.
#[derive(Debug, Clone, Default)]
pub struct RegistryMetrics {
    refused: Family<Label, Counter>,
}

impl RegistryMetrics {
    /// Adds them to the metrics of the process.
    pub fn register(&self, metrics: &mut Metrics) {
        let help = "Requests and connections refused because of the limits of an address";
        for reason in [Refusal::Rate, Refusal::Connection] {
            // A counter that is there from the start can be watched for its first refusal.
            let _ = self.refused.get_or_create(&reason.label());
        }
        metrics.register("renkei_registry_refused", help, self.refused.clone());
    }

    pub(crate) fn refused(&self, reason: Refusal) {
        self.refused.get_or_create(&reason.label()).inc();
    }

    #[cfg(test)]
    pub(crate) fn count(&self, reason: Refusal) -> u64 {
        self.refused.get_or_create(&reason.label()).get()
    }
}
