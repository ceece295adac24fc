//! A gauge of how many of something there are, which cannot be left too high.

use prometheus_client::metrics::gauge::Gauge;

/// One more in a gauge while this lives.
#[derive(Debug)]
pub struct Counted(Gauge);

impl Counted {
    /// Adds one to `gauge`.
    pub fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
