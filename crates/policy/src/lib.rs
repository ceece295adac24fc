//! Who may use a service: the allow list of the site file, and rules in Rego.
//!
//! A [`ServicePolicy`] turns a [`Request`] into a [`Decision`], always with the rule that made it
//! and a reason for people. In this order:
//!
//! 1. a `deny` message of the Rego module: denied;
//! 2. the caller is in the allow list: allowed;
//! 3. `allow` of the Rego module is true: allowed;
//! 4. otherwise: denied.
//!
//! Where [`MethodRules`] are given, a request of HTTP that is allowed so far must also be in them.
//!
//! The host and the path of a request are read in the one form that all servers agree about
//! ([`renkei_access::HttpHost`],
//! [`renkei_access::HttpPath`]). A path without such a form is denied where a rule that decides
//! about the request reads the path, and goes through elsewhere.
//!
//! A module that fails or runs into a limit denies. The rules see the document described at
//! [`RegoModule`] and nothing else: no files, no network, no environment. The clock is read for
//! `time.now_ns` alone: the limits count steps, not time.

mod decision;
mod methods;
mod rego;
mod service;

pub use decision::{Decision, Operation, Request, RuleKind};
pub use methods::MethodRules;
pub use rego::{RegoError, RegoModule};
pub use service::ServicePolicy;
