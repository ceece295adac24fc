//! TLS 1.3 connections to other sites: rustls makes the handshake, and the records that follow it
//! are cut here (RFC 8446 section 5).
//!
//! rustls verifies the peer, agrees on the keys and derives every later key; its own ciphers seal
//! and open the records. What is done here is only the cutting of records and the keeping of
//! buffers: records are opened where they were read, many at a time, and are sealed straight from
//! the application's memory. rustls's own connections copy each byte twice more, and read at most
//! one record at once.
//!
//! ```text
//!  connect, accept ──► TlsConnection ─┬─► RecordReader and RecordWriter, for a lane of a trunk
//!  (handshake.rs)                     └─► TlsStream, for a connection of its own
//! ```
//!
//! Each end replaces the key that it seals with after a number of records (KeyUpdate, 4.6.3). It
//! takes the peer's updates at any time. Session tickets are not asked for, and are dropped unread.

mod handshake;
mod keys;
mod opener;
mod reader;
mod sealer;
mod stream;
mod writer;

use std::io;

pub(crate) use handshake::{HandshakeError, TlsConnection, accept, connect};
pub(crate) use reader::{Pieces, READS, RecordReader};
pub(crate) use stream::TlsStream;
pub(crate) use writer::RecordWriter;

/// Bytes that one record carries (5.1).
pub(crate) const RECORD: usize = 16 * 1024;
/// The header before them (5.2).
const HEADER: usize = 5;
/// The most that a record is longer than its plaintext (5.2).
const EXPANSION: usize = 256;
/// The longest record.
const WHOLE: usize = HEADER + RECORD + EXPANSION;

/// The message NewSessionTicket (4.6.1).
const NEW_SESSION_TICKET: u8 = 4;
/// The message KeyUpdate (4.6.3).
const KEY_UPDATE: u8 = 24;

/// A fault of TLS, as an error of the connection.
fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests;
