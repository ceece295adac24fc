//! Mutually authenticated TLS with other sites: dialled by this one, or accepted from them.

mod accept;
mod dial;

pub(crate) use accept::{
    HandshakeFault, NO_SERVICE, PendingHandshake, UNFINISHED, Verified, accept, give_up,
    let_read_alert,
};
pub(crate) use dial::{DialFailure, Exit, ExitStream, GatewayPath, dial_peer};
