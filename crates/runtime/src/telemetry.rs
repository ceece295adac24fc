//! What the process reports: logs to standard error, metrics in a registry.

mod config;
mod counted;
mod line_budget;
mod line_limit;
mod logs;
mod metrics;
mod panics;
mod process;
mod writer;

pub use config::ConfigMetrics;
pub use counted::Counted;
pub use logs::{LogFormat, TelemetryError, init};
pub use metrics::Metrics;
pub use writer::{flush, say};
