//! What the proxy tells Prometheus about its connections and trunks, read from the register and
//! the trunks when asked, so that long connections count while they run.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use renkei_api::status::{Pair, Totals, TrunkCount};

use crate::{context::Flows, trunk::TrunkTable};

#[derive(Debug)]
pub(crate) struct FlowMetrics(pub(crate) Arc<Flows>);

#[derive(Debug)]
pub(crate) struct TrunkMetrics(pub(crate) Arc<TrunkTable>);

type Labels = [(&'static str, String); 3];

impl Collector for FlowMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let totals = self.0.totals();
        let mut counter = |name, help, value: fn(&Totals) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            totals.iter().try_for_each(|(pair, totals)| {
                let labels = labels(pair);
                ConstCounter::new(value(totals)).encode(family.encode_family(&labels)?)
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
        totals.iter().try_for_each(|(pair, totals)| {
            let open = i64::try_from(totals.open).unwrap_or(i64::MAX);
            ConstGauge::new(open).encode(family.encode_family(&labels(pair))?)
        })
    }
}

impl Collector for TrunkMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.0.count();
        let mut gauge = |name, help, value: fn(&TrunkCount) -> usize| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            counts.iter().try_for_each(|(pair, count)| {
                let value = i64::try_from(value(count)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(&labels(pair))?)
            })
        };
        let help = "Trunks that have a lane, or connections that wait for one.";
        gauge("renkei_trunks", help, |count| count.trunks)?;
        let help = "Lanes of these trunks that take new bytes.";
        gauge("renkei_trunk_lanes", help, |count| count.lanes)
    }
}

fn labels(pair: &Pair) -> Labels {
    [
        ("direction", pair.direction.label().to_owned()),
        ("caller", pair.caller.short()),
        ("callee", pair.callee.short()),
    ]
}
