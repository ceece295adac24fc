//! Seals records: what goes out (RFC 8446 5.2).

use std::{collections::VecDeque, sync::Arc};

use rustls::{
    AlertDescription, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion,
    crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage},
};

use super::{KEY_UPDATE, keys::TrafficKeys};

/// A KeyUpdate (4.6.3) that asks for none: each end counts the records that it seals.
const UPDATE_NOT_REQUESTED: [u8; 5] = [KEY_UPDATE, 0, 0, 1, 0];
/// The levels of alerts (6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// Seals what goes out.
pub(super) struct Sealer {
    cipher: Box<dyn MessageEncrypter>,
    keys: Arc<TrafficKeys>,
    /// Records sealed with this key.
    sequence: u64,
    /// Records after which a new key takes over.
    records_per_key: u64,
    limit: u64,
}

impl Sealer {
    /// A new key takes over after half of what the cipher allows.
    pub(super) fn new(
        keys: &Arc<TrafficKeys>,
        (sequence, secrets): (u64, ConnectionTrafficSecrets),
    ) -> Result<Self, Error> {
        Ok(Self {
            cipher: keys.encrypter(secrets)?,
            keys: keys.clone(),
            sequence,
            records_per_key: keys.limit() / 2,
            limit: keys.limit(),
        })
    }

    /// A new key takes over after so many records; never, for a peer that takes none.
    pub(super) fn set_records_per_key(&mut self, records: Option<u64>) {
        self.records_per_key = records.map_or(u64::MAX, |records| records.min(self.limit / 2));
    }

    /// A record of application data: the parts, together at most [`RECORD`](super::RECORD) bytes.
    /// Before it, if it is time, the record that changes the key.
    pub(super) fn seal(
        &mut self,
        parts: &[&[u8]],
        records: &mut VecDeque<Vec<u8>>,
    ) -> Result<(), Error> {
        // 4.6.3: a key that the peer has asked for comes before the next application data.
        if self.sequence >= self.records_per_key || self.keys.is_requested() {
            records.push_back(self.update_key()?);
        }
        records.push_back(self.encrypt(ContentType::ApplicationData, parts)?);
        Ok(())
    }

    /// The record behind which nothing more comes (6.1).
    pub(super) fn close_notify(&mut self) -> Result<Vec<u8>, Error> {
        let description = AlertDescription::CloseNotify.into();
        self.encrypt(ContentType::Alert, &[&[WARNING, description]])
    }

    /// The alert with the reason why the connection ends (6.2).
    pub(super) fn fatal_alert(&mut self, description: AlertDescription) -> Result<Vec<u8>, Error> {
        self.encrypt(ContentType::Alert, &[&[FATAL, description.into()]])
    }

    /// How many records its key has sealed.
    pub(super) fn sealed(&self) -> u64 {
        self.sequence
    }

    /// The record that announces the next key is the last one sealed with this (4.6.3).
    pub(super) fn update_key(&mut self) -> Result<Vec<u8>, Error> {
        let next = self.keys.next_encrypter()?;
        let record = self.encrypt(ContentType::Handshake, &[&UPDATE_NOT_REQUESTED])?;
        self.cipher = next;
        self.sequence = 0;
        Ok(record)
    }

    pub(super) fn encrypt(&mut self, typ: ContentType, parts: &[&[u8]]) -> Result<Vec<u8>, Error> {
        if self.sequence >= self.limit {
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

#[cfg(test)]
impl Sealer {
    /// As if its key had sealed so many records.
    pub(super) fn set_sealed(&mut self, records: u64) {
        self.sequence = records;
    }
}
