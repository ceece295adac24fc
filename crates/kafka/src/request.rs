//! The head of a request: as much as decides what becomes of it and of its answer.

use crate::api::{self, Api};
use crate::cutter::LENGTH;
use crate::error::{Party, SessionError};
use crate::wire::{Reader, WireFault};

/// Key, version and correlation id: what every request begins with.
const FIXED: usize = 8;

/// The longest head: client id and transactional id of 32 KiB each, and as much in tagged fields.
pub(crate) const MAX_HEAD: usize = 128 * 1024;

/// What a request begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning<'a> {
    /// A request of the message definitions.
    Known(Head<'a>),
    /// One that they do not have, whose answer cannot be written.
    Unknown { key: i16, version: i16 },
}

/// A request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head<'a> {
    pub(crate) api: &'static Api,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) detail: Detail<'a>,
}

/// What else must be known of certain requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail<'a> {
    /// Nothing else must be known.
    None,
    /// A Produce request that is not answered.
    NoAcks,
    /// An ApiVersions request of a version yet to be invented.
    FutureApiVersions,
    /// A SaslHandshake of version 0, with its mechanism.
    SaslTokens(&'a [u8]),
}

impl<'a> Head<'a> {
    /// Whether it is carried where no topic rights are in force. ApiVersions of the future is
    /// answered.
    pub(crate) fn is_carried(&self) -> bool {
        self.detail == Detail::FutureApiVersions
            || self.api.carried.is_some_and(|most| self.version <= most)
    }

    /// Reads the head of the frame of `length` bytes that `bytes` begin with; `None` asks for more.
    pub(crate) fn parse(
        bytes: &'a [u8],
        length: usize,
    ) -> Result<Option<Beginning<'a>>, SessionError> {
        if length < FIXED {
            return Err(SessionError::ShortFrame {
                from: Party::Client,
                length,
            });
        }
        let frame = bytes.get(LENGTH..).unwrap_or_default();
        let frame = frame.get(..length).unwrap_or(frame);
        let fixed = frame.first_chunk::<FIXED>().copied();
        let Some([k0, k1, v0, v1, c0, c1, c2, c3]) = fixed else {
            return Ok(None);
        };
        let key = i16::from_be_bytes([k0, k1]);
        let version = i16::from_be_bytes([v0, v1]);
        let answerable = |api: &Api| {
            api.is_known(version) || (key == api::API_VERSIONS && version > api.max_version)
        };
        let Some(api) = api::find(key).filter(|api| answerable(api)) else {
            return Ok(Some(Beginning::Unknown { key, version }));
        };
        let detail = match key {
            api::API_VERSIONS if version > api.max_version => Ok(Detail::FutureApiVersions),
            api::PRODUCE => produce(frame, version),
            api::SASL_HANDSHAKE if version == 0 => sasl_handshake(frame),
            _ => Ok(Detail::None),
        };
        match detail {
            Ok(detail) => {
                let correlation = i32::from_be_bytes([c0, c1, c2, c3]);
                Ok(Some(Beginning::Known(Self {
                    api,
                    version,
                    correlation,
                    detail,
                })))
            }
            Err(WireFault::Truncated) if frame.len() < length => match frame.len() > MAX_HEAD {
                true => Err(SessionError::LongHeader { api: api.name }),
                false => Ok(None),
            },
            Err(fault) => Err(SessionError::MalformedRequest {
                api: api.name,
                fault,
            }),
        }
    }
}

/// A reader behind the header. The client id keeps its old form in headers of version 2.
pub(crate) fn body(frame: &[u8], flexible: bool) -> Result<Reader<'_>, WireFault> {
    let mut header = Reader::new(frame, false);
    header.take(FIXED)?;
    header.nullable_string()?;
    let mut body = Reader::new(frame, flexible);
    body.take(header.at())?;
    body.skip_tags()?;
    Ok(body)
}

/// Reads a Produce request as far as its acks.
fn produce<'a>(frame: &[u8], version: i16) -> Result<Detail<'a>, WireFault> {
    let mut body = body(frame, version >= 9)?;
    if version >= 3 {
        body.nullable_string()?;
    }
    Ok(match body.i16()? {
        0 => Detail::NoAcks,
        _ => Detail::None,
    })
}

fn sasl_handshake(frame: &[u8]) -> Result<Detail<'_>, WireFault> {
    body(frame, false)?.string().map(Detail::SaslTokens)
}
