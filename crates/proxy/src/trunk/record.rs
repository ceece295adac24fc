//! The records of a lane once rustls has finished its handshake (RFC 8446 section 5).
//!
//! rustls makes the connection, verifies the peer and agrees on the keys; its own ciphers seal and
//! open the records. What is done here is only the cutting of records and the keeping of buffers:
//! records are opened where they were read, many at a time, and frames are sealed straight from
//! the application's memory. rustls's own connections copy each byte twice more, and read at most
//! one record at once.
//!
//! A lane lives for one pair of keys: KeyUpdate (4.6.3) is neither sent nor taken, and a lane is
//! replaced long before its cipher's limit ([`WORN`]). Session tickets are not asked for, and
//! dropped unread.

use std::ops::Range;

use rustls::{
    AlertDescription, Connection, ConnectionTrafficSecrets, ContentType, Error, ExtractedSecrets,
    ProtocolVersion, SupportedCipherSuite,
    crypto::cipher::{
        AeadKey, InboundOpaqueMessage, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks,
        OutboundPlainMessage,
    },
};

/// Bytes that one record carries (5.1).
pub(super) const RECORD: usize = 16 * 1024;
/// The header before them (5.2).
const HEADER: usize = 5;
/// The most that a record is longer than its plaintext (5.2).
const EXPANSION: usize = 256;
/// The longest record.
pub(super) const WHOLE: usize = HEADER + RECORD + EXPANSION;
/// Records in one direction after which a lane should be replaced: 128 GiB, a third of what
/// AES-GCM bears (5.5).
pub(super) const WORN: u64 = 1 << 23;
/// Records in one direction after which nothing more is sealed or opened.
const EXHAUSTED: u64 = 1 << 24;

/// The type of the handshake message NewSessionTicket (4).
const NEW_SESSION_TICKET: u8 = 4;
/// A close_notify alert (6.1): level warning, description 0.
const CLOSE_NOTIFY: [u8; 2] = [1, 0];

/// Seals what goes out.
pub(super) struct Sealer {
    cipher: Box<dyn MessageEncrypter>,
    sequence: u64,
}

/// Opens what comes in.
pub(super) struct Opener {
    cipher: Box<dyn MessageDecrypter>,
    sequence: u64,
}

/// What the first bytes of a buffer are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Not a whole record yet.
    Incomplete,
    /// A record of so many bytes, whose data, perhaps none, now stand in the clear at this place.
    Record { length: usize, data: Range<usize> },
    /// The peer's clean end.
    Closed,
}

/// Takes over a TLS 1.3 connection after its handshake. Bytes that rustls has read and not
/// decrypted would be lost, so nothing may be under way to it: the first that follows fails then.
pub(super) fn take_over(connection: Connection) -> Result<(Sealer, Opener), Error> {
    let suite = connection.negotiated_cipher_suite();
    let Some(SupportedCipherSuite::Tls13(suite)) = suite else {
        return Err(Error::HandshakeNotComplete);
    };
    let ExtractedSecrets { tx, rx } = connection.dangerous_extract_secrets()?;
    let (key, iv) = key_of(tx.1)?;
    let sealer = Sealer {
        cipher: suite.aead_alg.encrypter(key, iv),
        sequence: tx.0,
    };
    let (key, iv) = key_of(rx.1)?;
    let opener = Opener {
        cipher: suite.aead_alg.decrypter(key, iv),
        sequence: rx.0,
    };
    Ok((sealer, opener))
}

fn key_of(secrets: ConnectionTrafficSecrets) -> Result<(AeadKey, Iv), Error> {
    match secrets {
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => Ok((key, iv)),
        _ => Err(Error::General("a cipher that lanes do not know".into())),
    }
}

impl Sealer {
    /// A record of application data: the parts, together at most [`RECORD`] bytes, in one piece.
    pub(super) fn seal(&mut self, parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
        self.encrypt(ContentType::ApplicationData, parts)
    }

    /// The record behind which nothing more comes.
    pub(super) fn close_notify(&mut self) -> Result<Vec<u8>, Error> {
        self.encrypt(ContentType::Alert, &[&CLOSE_NOTIFY])
    }

    /// How many records it has sealed.
    pub(super) fn sealed(&self) -> u64 {
        self.sequence
    }

    fn encrypt(&mut self, typ: ContentType, parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
        if self.sequence >= EXHAUSTED {
            return Err(Error::EncryptError);
        }
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::new(parts),
        };
        let sealed = self.cipher.encrypt(message, self.sequence)?;
        self.sequence += 1;
        Ok(sealed.encode())
    }
}

impl Opener {
    /// Opens the record at the beginning of `input`, in place.
    pub(super) fn open(&mut self, input: &mut [u8]) -> Result<Opened, Error> {
        let Some(&[typ, _, _, high, low]) = input.first_chunk::<HEADER>() else {
            return Ok(Opened::Incomplete);
        };
        if ContentType::from(typ) != ContentType::ApplicationData {
            return Err(Error::DecryptError);
        }
        let length = HEADER + usize::from(u16::from_be_bytes([high, low]));
        if length > WHOLE {
            return Err(Error::PeerSentOversizedRecord);
        }
        let Some(body) = input.get_mut(HEADER..length) else {
            return Ok(Opened::Incomplete);
        };
        if self.sequence >= EXHAUSTED {
            return Err(Error::DecryptError);
        }
        let version = ProtocolVersion::TLSv1_2;
        let message = InboundOpaqueMessage::new(ContentType::ApplicationData, version, body);
        let plain = self.cipher.decrypt(message, self.sequence)?;
        self.sequence += 1;
        let data = match plain.typ {
            ContentType::ApplicationData => HEADER..HEADER + plain.payload.len(),
            ContentType::Alert => return alert(plain.payload),
            ContentType::Handshake if plain.payload.first() == Some(&NEW_SESSION_TICKET) => 0..0,
            _ => return Err(Error::General("a record that lanes do not know".into())),
        };
        Ok(Opened::Record { length, data })
    }

    /// How many records it has opened.
    pub(super) fn opened(&self) -> u64 {
        self.sequence
    }
}

/// Any alert but the clean end is an error (6.2).
fn alert(message: &[u8]) -> Result<Opened, Error> {
    match message {
        [_, description] => match AlertDescription::from(*description) {
            AlertDescription::CloseNotify => Ok(Opened::Closed),
            description => Err(Error::AlertReceived(description)),
        },
        _ => Err(Error::DecryptError),
    }
}

#[cfg(test)]
mod tests;
