//! What a caller may do at a service beyond connecting: methods, hosts and paths of HTTP, topics
//! and groups of Kafka.
//!
//! The site file is read into these types, a policy decides by them, and a Kafka session enforces
//! them. So a rule is compared with exactly the form in which it was checked. This crate knows no
//! caller and makes no decision; it has no sockets, files, tasks or clock.

mod http_host;
mod http_path;
mod method;
mod topic;

pub use http_host::{HttpHost, HttpHostError};
pub use http_path::{HttpPath, HttpPathError, RequestPath};
pub use method::{MethodRule, MethodRuleError, PathRule};
pub use topic::{NamePatterns, TopicRights};
