//! Who talks to whom, and with which certificates.

mod credentials;

pub(crate) use credentials::{Credentials, Fault};
pub(crate) use renkei_api::status::{Direction, Pair};
