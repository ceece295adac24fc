//! What a caller may do at a service that speaks Kafka.

use serde::{Deserialize, Serialize};

/// The topics and groups that a caller may use. Each name is whole, or a prefix with `*` at its
/// end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicRights {
    /// Topics it may write to.
    pub produce: Vec<String>,
    /// Topics it may read.
    pub consume: Vec<String>,
    /// Topics it may create.
    pub create: Vec<String>,
    /// Topics it may see, besides those it may write or read.
    pub describe: Vec<String>,
    /// Consumer groups it may use.
    pub group: Vec<String>,
}
