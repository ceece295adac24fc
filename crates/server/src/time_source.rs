//! Where the server takes the time from; tests give it their own.

use std::sync::Arc;

use time::OffsetDateTime;

/// Gives the time that the server acts by. Tests set it.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;
