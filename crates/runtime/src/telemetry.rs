//! What the process tells: logs to standard error, metrics in a registry.

mod logs;
mod metrics;
mod process;

pub use logs::{LogFormat, TelemetryError, init};
pub use metrics::Metrics;
