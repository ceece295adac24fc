//! Who talks to whom, and with which certificates.

mod credentials;
mod withdrawn;

pub(crate) use credentials::{Credentials, Fault};
pub(crate) use renkei_api::status::{Direction, Pair};
pub(crate) use withdrawn::Withdrawn;
