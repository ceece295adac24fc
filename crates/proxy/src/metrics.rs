//! The metrics of the proxy about its connections and trunks, read from the register and
//! the trunks when asked, so that long connections count while they run.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use renkei_api::status::{Direction, Pair, Totals, TrunkCount};

use crate::{
    admission::Admission,
    context::{Flows, Others, ROWS, ROWS_OF_SITE, other_row},
    trunk::TrunkTable,
};

/// The label of all identities that have no row of their own. No identity looks so.
const OTHER: &str = "other";

#[derive(Debug)]
pub(crate) struct FlowMetrics(pub(crate) Arc<Flows>);

#[derive(Debug)]
pub(crate) struct TrunkMetrics(pub(crate) Arc<TrunkTable>);

type Labels = [(&'static str, String); 3];

impl Collector for FlowMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (pairs, others) = self.0.totals();
        let rows = rows(pairs, others);
        let mut counter = |name, help, value: fn(&Totals) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            rows.iter().try_for_each(|(labels, totals)| {
                ConstCounter::new(value(totals)).encode(family.encode_family(labels)?)
            })
        };
        counter("renkei_flows", "Connections opened.", |totals| {
            totals.connections
        })?;
        counter(
            "renkei_flow_sent_bytes",
            "Bytes to the other site.",
            |totals| totals.bytes_sent,
        )?;
        counter(
            "renkei_flow_received_bytes",
            "Bytes from the other site.",
            |totals| totals.bytes_received,
        )?;
        let help = "Connections open now.";
        let mut family =
            encoder.encode_descriptor("renkei_flows_open", help, None, MetricType::Gauge)?;
        rows.iter().try_for_each(|(labels, totals)| {
            let open = i64::try_from(totals.open).unwrap_or(i64::MAX);
            ConstGauge::new(open).encode(family.encode_family(labels)?)
        })
    }
}

impl Collector for TrunkMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (pairs, others) = fold(self.0.count());
        let rows = rows(pairs, others);
        let mut gauge = |name, help, value: fn(&TrunkCount) -> usize| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            rows.iter().try_for_each(|(labels, count)| {
                let value = i64::try_from(value(count)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(labels)?)
            })
        };
        let help = "Trunks that have a lane, or connections that wait for one.";
        gauge("renkei_trunks", help, |count| count.trunks)?;
        let help = "Lanes of these trunks that take new bytes.";
        gauge("renkei_trunk_lanes", help, |count| count.lanes)
    }
}

/// The trunks of so many pairs as there are rows, and those of the others together.
fn fold(all: BTreeMap<Pair, TrunkCount>) -> (BTreeMap<Pair, TrunkCount>, Others<TrunkCount>) {
    let (mut rows, mut others) = (BTreeMap::new(), Others::<TrunkCount>::new());
    let mut of_site: HashMap<_, usize> = HashMap::new();
    for (pair, count) in all {
        let site = (other_row(&pair), pair.remote().trust_domain().clone());
        let of_site = of_site.entry(site).or_default();
        if *of_site < ROWS_OF_SITE && rows.len() < ROWS {
            *of_site += 1;
            rows.insert(pair, count);
        } else {
            let other = others.entry(other_row(&pair)).or_default();
            other.trunks += count.trunks;
            other.lanes += count.lanes;
        }
    }
    (rows, others)
}

/// All rows with their labels.
fn rows<T>(pairs: BTreeMap<Pair, T>, others: Others<T>) -> Vec<(Labels, T)> {
    let pairs = pairs.into_iter().map(|(pair, value)| {
        let (caller, callee) = (pair.caller.short(), pair.callee.short());
        (labels(pair.direction, caller, callee), value)
    });
    let others = others.into_iter().map(|((direction, own), value)| {
        let (caller, callee) = match direction {
            Direction::Inbound => (OTHER.to_owned(), own.short()),
            Direction::Outbound => (own.short(), OTHER.to_owned()),
        };
        (labels(direction, caller, callee), value)
    });
    pairs.chain(others).collect()
}

/// The places of each kind of connection.
#[derive(Debug)]
pub(crate) struct PlaceMetrics(pub(crate) Arc<Admission>);

impl Collector for PlaceMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let usage = self.0.usage();
        let mut gauge = |name, help, value: fn((usize, usize)) -> usize| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            usage.iter().try_for_each(|(pool, usage)| {
                let value = i64::try_from(value(*usage)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&[("kind", *pool)])?)
            })
        };
        let help = "Connections that count against a limit.";
        gauge("renkei_places_taken", help, |(taken, _)| taken)?;
        gauge(
            "renkei_places",
            "The limit of each kind of connection.",
            |(_, all)| all,
        )
    }
}

fn labels(direction: Direction, caller: String, callee: String) -> Labels {
    [
        ("direction", direction.label().to_owned()),
        ("caller", caller),
        ("callee", callee),
    ]
}
