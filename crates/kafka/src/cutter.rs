//! Cutting frames out of a growing buffer without copying them.

use bytes::{Bytes, BytesMut};

use crate::{
    error::{Party, SessionError},
    limits::MAX_FRAME,
};

/// Bytes of a frame's length, which the length itself does not count.
pub(crate) const LENGTH: usize = 4;

/// A buffer of received bytes, of which a first part has been judged fit to pass as it is.
///
/// Neighbouring frames that pass leave as one slice.
pub(crate) struct Cutter<'a> {
    input: &'a mut BytesMut,
    out: &'a mut Vec<Bytes>,
    passed: usize,
}

impl<'a> Cutter<'a> {
    pub(crate) fn new(input: &'a mut BytesMut, out: &'a mut Vec<Bytes>) -> Self {
        Self {
            input,
            out,
            passed: 0,
        }
    }

    /// What has not been judged yet.
    pub(crate) fn rest(&self) -> &[u8] {
        self.input.get(self.passed..).unwrap_or_default()
    }

    /// Lets up to `count` bytes pass; gives back how many of them have yet to arrive.
    pub(crate) fn pass(&mut self, count: usize) -> usize {
        let now = count.min(self.rest().len());
        self.passed += now;
        count - now
    }

    /// Drops up to `count` bytes; gives back how many of them have yet to arrive.
    pub(crate) fn discard(&mut self, count: usize) -> usize {
        self.flush();
        let now = count.min(self.input.len());
        drop(self.input.split_to(now));
        count - now
    }

    /// Puts `frame` in the place of `count` bytes; gives back how many of those have yet to arrive.
    pub(crate) fn replace(&mut self, count: usize, frame: Bytes) -> usize {
        let left = self.discard(count);
        self.out.push(frame);
        left
    }

    /// Takes out `count` bytes that have arrived, uncopied.
    pub(crate) fn take(&mut self, count: usize) -> Bytes {
        self.flush();
        self.input.split_to(count.min(self.input.len())).freeze()
    }

    /// Puts something out behind what has been passed.
    pub(crate) fn put(&mut self, bytes: Bytes) {
        self.flush();
        self.out.push(bytes);
    }

    /// Overwrites bytes that have arrived and not been judged.
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) {
        let start = self.passed.saturating_add(at);
        let end = start.saturating_add(bytes.len());
        if let Some(place) = self.input.get_mut(start..end) {
            place.copy_from_slice(bytes);
        }
    }

    /// Puts out what has been passed.
    pub(crate) fn flush(&mut self) {
        if self.passed > 0 {
            self.out.push(self.input.split_to(self.passed).freeze());
            self.passed = 0;
        }
    }
}

/// The length of the frame that `bytes` begin with, once it has arrived and if it is allowed.
pub(crate) fn frame_length(bytes: &[u8], from: Party) -> Result<Option<usize>, SessionError> {
    let Some(prefix) = bytes.first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let claimed = i32::from_be_bytes(*prefix);
    match usize::try_from(claimed) {
        Ok(length) if length <= MAX_FRAME => Ok(Some(length)),
        // A TLS record (RFC 8446, section 5.1) of any version reads as a length beyond the limit.
        _ => Err(match (prefix, from) {
            ([0x16, 0x03, ..], Party::Client) => SessionError::ClientSpeaksTls,
            ([0x15 | 0x16, 0x03, ..], Party::Broker) => SessionError::BrokerSpeaksTls,
            _ => SessionError::FrameLength {
                from,
                length: claimed,
            },
        }),
    }
}
