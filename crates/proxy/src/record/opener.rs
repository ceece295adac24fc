//! Opens records: what comes in (RFC 8446 5.2).

use std::{ops::Range, sync::Arc};

use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, HandshakeType, InvalidMessage,
    PeerMisbehaved, ProtocolVersion,
    crypto::cipher::{InboundOpaqueMessage, MessageDecrypter},
};

use super::{HEADER, KEY_UPDATE, NEW_SESSION_TICKET, WHOLE, keys::TrafficKeys};

/// How many more key updates than other records a peer may send. BoringSSL and rustls have the
/// same number, for updates in a row.
const UPDATES: u64 = 32;

/// Opens what comes in.
pub(super) struct Opener {
    cipher: Box<dyn MessageDecrypter>,
    keys: Arc<TrafficKeys>,
    /// Records opened with this key.
    sequence: u64,
    limit: u64,
    /// Updates that the peer may send now. Each record of another kind allows one more.
    updates: u64,
}

/// What the first bytes of a buffer are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// Not a whole record yet.
    Incomplete,
    /// A record of so many bytes, whose data, perhaps none, is now decrypted at this place.
    Record { length: usize, data: Range<usize> },
    /// The peer's clean end.
    Closed,
}

impl Opener {
    pub(super) fn new(
        keys: &Arc<TrafficKeys>,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        Ok(Self {
            cipher: keys.decrypter(secrets)?,
            keys: keys.clone(),
            sequence,
            limit: keys.limit(),
            updates: UPDATES,
        })
    }

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
        if self.sequence >= self.limit {
            return Err(Error::DecryptError);
        }
        let version = ProtocolVersion::TLSv1_2;
        let message = InboundOpaqueMessage::new(ContentType::ApplicationData, version, body);
        let plain = self.cipher.decrypt(message, self.sequence)?;
        self.sequence += 1;
        let nothing = Opened::Record { length, data: 0..0 };
        match plain.typ {
            ContentType::ApplicationData => {
                let data = HEADER..HEADER + plain.payload.len();
                Ok(Opened::Record { length, data })
            }
            ContentType::Alert => Ok(alert(plain.payload)?.unwrap_or(nothing)),
            ContentType::Handshake => self.handshake(plain.payload).map(|()| nothing),
            got_type => Err(Error::InappropriateMessage {
                expect_types: vec![ContentType::ApplicationData],
                got_type,
            }),
        }
    }

    /// How many records its key has opened.
    pub(super) fn opened(&self) -> u64 {
        self.sequence
    }

    /// Messages of a handshake that is over (4.6). Each is to be whole in its record: those that
    /// may come are short, and are not put together out of several.
    fn handshake(&mut self, mut messages: &[u8]) -> Result<(), Error> {
        loop {
            let (typ, body, rest) = first_message(messages)?;
            match typ {
                NEW_SESSION_TICKET => {}
                // 5.1: a change of keys is the end of a record.
                KEY_UPDATE if !rest.is_empty() => {
                    return Err(PeerMisbehaved::KeyEpochWithPendingFragment.into());
                }
                KEY_UPDATE => return self.update_key(body),
                typ => {
                    return Err(Error::InappropriateHandshakeMessage {
                        expect_types: vec![HandshakeType::KeyUpdate],
                        got_type: typ.into(),
                    });
                }
            }
            if rest.is_empty() {
                return Ok(());
            }
            messages = rest;
        }
    }

    /// From the next record on, the peer seals with its next key (4.6.3).
    fn update_key(&mut self, body: &[u8]) -> Result<(), Error> {
        let requested = match body {
            [0] => false,
            [1] => true,
            _ => return Err(InvalidMessage::InvalidKeyUpdate.into()),
        };
        let others = self.sequence.saturating_sub(1);
        let allowed = self.updates.saturating_add(others).min(UPDATES);
        self.updates = allowed
            .checked_sub(1)
            .ok_or(PeerMisbehaved::TooManyKeyUpdateRequests)?;
        self.cipher = self.keys.next_decrypter()?;
        self.sequence = 0;
        if requested {
            self.keys.request();
        }
        Ok(())
    }
}

#[cfg(test)]
impl Opener {
    /// As if its key had opened so many records.
    pub(super) fn set_opened(&mut self, records: u64) {
        self.sequence = records;
    }
}

/// The type and the body of the first message (4), and what follows it.
fn first_message(messages: &[u8]) -> Result<(u8, &[u8], &[u8]), Error> {
    let short = Error::InvalidMessage(InvalidMessage::MessageTooShort);
    let Some((&[typ, a, b, c], rest)) = messages.split_first_chunk::<4>() else {
        return Err(short);
    };
    let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
    let (body, rest) = rest.split_at_checked(length).ok_or(short)?;
    Ok((typ, body, rest))
}

/// The peer's clean end; nothing, of a notice that one follows (6.1). Any other alert is an error
/// (6.2).
fn alert(message: &[u8]) -> Result<Option<Opened>, Error> {
    match message {
        [_, description] => match AlertDescription::from(*description) {
            AlertDescription::CloseNotify => Ok(Some(Opened::Closed)),
            AlertDescription::UserCanceled => Ok(None),
            description => Err(Error::AlertReceived(description)),
        },
        _ => Err(Error::DecryptError),
    }
}

/// The alert for a peer that sent such a record (6.2). None if the peer has ended the connection.
pub(super) fn alert_for(error: &Error) -> Option<AlertDescription> {
    match error {
        Error::AlertReceived(_) => None,
        Error::DecryptError => Some(AlertDescription::BadRecordMac),
        Error::PeerSentOversizedRecord => Some(AlertDescription::RecordOverflow),
        Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => {
            Some(AlertDescription::IllegalParameter)
        }
        Error::InvalidMessage(_) => Some(AlertDescription::DecodeError),
        _ => Some(AlertDescription::UnexpectedMessage),
    }
}
