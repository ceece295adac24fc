//! The metrics of a process about the backends of its services.

use std::sync::Weak;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};
use renkei_api::status::BackendStatus;

use super::Inbound;

#[derive(Debug)]
pub(crate) struct BackendMetrics(pub(crate) Weak<Inbound>);

type Labels = [(&'static str, String); 2];

impl Collector for BackendMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Some(inbound) = self.0.upgrade() else {
            return Ok(());
        };
        let backends = inbound.backend_status();
        let help = "Whether a backend answers: 0 while it is skipped.";
        let mut family =
            encoder.encode_descriptor("renkei_backend_up", help, None, MetricType::Gauge)?;
        backends.iter().try_for_each(|backend| {
            let up = i64::from(backend.up);
            ConstGauge::new(up).encode(family.encode_family(&labels(backend))?)
        })?;
        let mut counter = |name, help, value: fn(&BackendStatus) -> u64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            backends.iter().try_for_each(|backend| {
                let counter = ConstCounter::new(value(backend));
                counter.encode(family.encode_family(&labels(backend))?)
            })
        };
        counter(
            "renkei_backend_connections",
            "Connections that a backend has accepted.",
            |backend| backend.connections,
        )?;
        counter(
            "renkei_backend_failures",
            "Connections that a backend has refused, or not answered.",
            |backend| backend.failures,
        )
    }
}

fn labels(backend: &BackendStatus) -> Labels {
    [
        ("service", backend.service.clone()),
        ("backend", backend.address.clone()),
    ]
}
