//! SASL in the form that has no headers.
//!
//! After SaslHandshake version 1 a client sends SaslAuthenticate, a request like any other. After
//! version 0 it sends bare tokens, each with only a length before it, and requests again once the
//! mechanism is through (KIP-43). Only the mechanism defines where that is.

use crate::wire::{Reader, WireFault};

/// The state of a connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sasl {
    /// Frames are requests.
    #[default]
    Requests,
    /// A handshake of version 0 awaits its answer; the client must wait too.
    Handshake,
    /// The next so many frames of the client are tokens.
    Tokens(u8),
}

/// How many tokens a client sends for a mechanism, if that can be followed.
pub(crate) fn rounds(mechanism: &[u8]) -> Option<u8> {
    match mechanism {
        b"PLAIN" | b"OAUTHBEARER" => Some(1),
        b"SCRAM-SHA-256" | b"SCRAM-SHA-512" => Some(2),
        _ => None,
    }
}

/// Reads the answer to a handshake: tokens follow only if the broker agreed.
pub(crate) fn agreed(frame: &[u8], rounds: u8) -> Result<Sasl, WireFault> {
    let mut answer = Reader::new(frame, false);
    answer.take(8)?;
    Ok(match answer.i16()? {
        0 => Sasl::Tokens(rounds),
        _ => Sasl::Requests,
    })
}
