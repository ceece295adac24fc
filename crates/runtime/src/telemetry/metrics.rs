//! The registry of metrics, encoded as OpenMetrics text.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};

use super::process::Process;

/// The metrics of the process; clones are the same registry.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// A registry with what every process has: `renkei_build_info`, `process_*`, and how many
    /// lines of the log are lost.
    pub fn new(version: &str) -> Self {
        let mut registry = Registry::default();
        let build = Info::new(vec![("version", version.to_owned())]);
        registry.register("renkei_build", "The version of Renkei", build);
        registry.register_collector(Box::new(Process));
        Self {
            registry: Arc::new(Mutex::new(registry)),
        }
    }

    /// Lets a role add its metrics: `metrics.register(|registry| counters.register(registry))`.
    pub fn register<T>(&self, add: impl FnOnce(&mut Registry) -> T) -> T {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::{counter::Counter, family::Family};

    use super::*;

    #[test]
    fn what_a_role_registers_is_in_the_text() {
        let metrics = Metrics::new("0.1.0");
        let refused = Family::<Vec<(&'static str, &'static str)>, Counter>::default();
        metrics.register(|r| r.register("renkei_refused", "Refused peers", refused.clone()));
        refused.get_or_create(&vec![("reason", "expired")]).inc();
        let text = metrics.encode().unwrap();
        for line in [
            "renkei_build_info{version=\"0.1.0\"} 1",
            "# HELP renkei_refused Refused peers.",
            "renkei_refused_total{reason=\"expired\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
