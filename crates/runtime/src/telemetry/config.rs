//! Whether the configuration file was applied, under the names that Prometheus itself has.

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use time::OffsetDateTime;

/// How the last attempt went; clones tell the same.
#[derive(Debug, Clone, Default)]
pub struct ConfigMetrics {
    successful: Gauge,
    success_time: Gauge,
}

impl ConfigMetrics {
    /// Registers the metrics `renkei_config_...`.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "renkei_config_last_apply_successful",
            "Whether the site file was applied when that was last asked for: 1 or 0",
            metrics.successful.clone(),
        );
        registry.register(
            "renkei_config_last_apply_success_timestamp_seconds",
            "When the site file was last applied, in seconds since 1970",
            metrics.success_time.clone(),
        );
        metrics
    }

    /// The file counts from now on.
    pub fn applied(&self) {
        self.successful.set(1);
        self.success_time
            .set(OffsetDateTime::now_utc().unix_timestamp());
    }

    /// The former file stays in force.
    pub fn refused(&self) {
        self.successful.set(0);
    }
}
