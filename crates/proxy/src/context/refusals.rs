//! Connections that were refused: counted, logged with one sentence, the last ones kept. A flood of
//! them is counted whole; the log has a budget (`renkei_runtime::telemetry`).

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::{self, Write},
    sync::{Mutex, PoisonError},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use renkei_api::status::{Direction, RefusalCount, RefusalRecord};
use renkei_runtime::clock;

/// How many are kept.
const KEPT: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct Labels {
    direction: Label,
    service: String,
    reason: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Label(Direction);

impl EncodeLabelValue for Label {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), fmt::Error> {
        encoder.write_str(self.0.label())
    }
}

/// All refusals of a proxy.
#[derive(Debug, Default)]
pub struct Refusals {
    counters: Family<Labels, Counter>,
    /// What `counters` holds, for reading back.
    counted: Mutex<BTreeMap<Labels, u64>>,
    last: Mutex<VecDeque<RefusalRecord>>,
}

impl Refusals {
    /// Adds `renkei_refusals_total` to a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Connections refused, by reason";
        registry.register("renkei_refusals", help, self.counters.clone());
    }

    pub(crate) fn record(
        &self,
        direction: Direction,
        service: &str,
        peer: impl Into<String>,
        reason: &'static str,
        sentence: impl Into<String>,
    ) {
        let (service, peer, sentence) = (service.to_owned(), peer.into(), sentence.into());
        self.count(direction, &service, reason);
        let way = direction.label();
        tracing::warn!(
            direction = way,
            service,
            peer,
            reason,
            "refused: {sentence}"
        );
        let time = clock::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.truncate(KEPT - 1);
        last.push_front(RefusalRecord {
            time,
            direction,
            service,
            peer,
            reason: reason.into(),
            sentence,
        });
    }

    /// Counts a refusal without a line in the log.
    pub(crate) fn count(&self, direction: Direction, service: &str, reason: &'static str) {
        let labels = Labels {
            direction: Label(direction),
            service: service.to_owned(),
            reason,
        };
        self.counters.get_or_create(&labels).inc();
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        *counted.entry(labels).or_default() += 1;
    }

    /// The last ones, newest first.
    pub fn last(&self) -> Vec<RefusalRecord> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    /// How many of each.
    pub fn counts(&self) -> Vec<RefusalCount> {
        let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |(labels, count): (&Labels, &u64)| RefusalCount {
            direction: labels.direction.0,
            service: labels.service.clone(),
            reason: labels.reason.into(),
            count: *count,
        };
        counted.iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept_and_all_are_counted() {
        let refusals = Refusals::default();
        for n in 0..100 {
            refusals.record(
                Direction::Inbound,
                "broker",
                format!("peer {n}"),
                "expired",
                "late",
            );
        }
        let last = refusals.last();
        assert_eq!(last.len(), KEPT);
        assert_eq!(last[0].peer, "peer 99");
        let counts = refusals.counts();
        assert_eq!(
            (counts.len(), counts[0].count, &*counts[0].reason),
            (1, 100, "expired")
        );
    }
}
