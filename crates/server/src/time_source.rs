//! Where the server takes the time from; tests give it their own.

use std::sync::Arc;

use time::OffsetDateTime;

/// The time now.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;
