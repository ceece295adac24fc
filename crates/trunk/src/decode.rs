//! From bytes to frames. Nothing is allocated for a length that was not checked first, and the
//! bytes of DATA frames are never collected: each part is handed on as it comes.

use bytes::{Buf, Bytes, BytesMut, TryGetError};

use crate::config::TrunkLimits;
use crate::error::{LaneRefusal, Violation};
use crate::frame::{
    DATA_FIELDS, Frame, HEAD, HELLO_LENGTH, MAX_DATA, MAX_GREETING, MAX_TARGET, MAX_TEXT, VERSION,
    kind,
};
use crate::hello::Hello;
use crate::id::{Code, LaneId, StreamId, TrunkId};

/// The frames of one lane. Holds at most one frame's fields (about 1 KiB).
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    partial: BytesMut,
    data: Option<DataRest>,
}

/// What is still to come of a DATA frame.
#[derive(Debug)]
struct DataRest {
    stream: StreamId,
    offset: u64,
    remaining: usize,
    fin: bool,
}

impl Decoder {
    /// The next frame, or `None` when `input` is used up. A DATA frame may come in several parts.
    pub(crate) fn next(&mut self, input: &mut Bytes) -> Result<Option<Frame>, Violation> {
        if let Some(rest) = self.data.take() {
            return Ok(self.data_part(rest, input));
        }
        let Some((kind, length)) = self.head(input) else {
            return Ok(None);
        };
        let (least, most) = bounds(kind).ok_or(Violation::UnknownFrame(kind))?;
        if length < least || length > most {
            return Err(Violation::FrameLength { kind, length });
        }
        let data = matches!(kind, kind::DATA | kind::DATA_FIN);
        if !self.fill(input, HEAD + if data { DATA_FIELDS } else { length }) {
            return Ok(None);
        }
        let mut fields = self.partial.split();
        fields.advance(HEAD);
        let malformed = |_| Violation::FrameLength { kind, length };
        if data {
            let rest = data_rest(kind, length, &mut fields).map_err(malformed)?;
            return Ok(self.data_part(rest, input));
        }
        parse(kind, fields).map(Some).map_err(malformed)
    }

    /// The first frame of a lane, whose version may be another: then it is not looked into.
    pub(crate) fn greeting(&mut self, input: &mut Bytes) -> Result<Option<Frame>, LaneRefusal> {
        let Some((kind, length)) = self.head(input) else {
            return Ok(None);
        };
        if !matches!(kind, kind::HELLO | kind::REFUSED) || !(1..=MAX_GREETING).contains(&length) {
            return Err(LaneRefusal::Malformed);
        }
        if !self.fill(input, HEAD + length) {
            return Ok(None);
        }
        let mut fields = self.partial.split();
        fields.advance(HEAD);
        let theirs = fields.first().copied().unwrap_or_default();
        if kind == kind::HELLO && theirs != VERSION {
            return Err(LaneRefusal::Version {
                ours: VERSION,
                theirs,
            });
        }
        if kind == kind::HELLO && length != HELLO_LENGTH {
            return Err(LaneRefusal::Malformed);
        }
        parse(kind, fields)
            .map(Some)
            .map_err(|_| LaneRefusal::Malformed)
    }

    /// The type and length of the frame that begins, once they are there.
    fn head(&mut self, input: &mut Bytes) -> Option<(u8, usize)> {
        if !self.fill(input, HEAD) {
            return None;
        }
        let mut head = self.partial.get(..HEAD)?;
        let word = head.try_get_u32().ok()?;
        let length = usize::try_from(word & 0x00ff_ffff).ok()?;
        Some((word.to_be_bytes().first().copied()?, length))
    }

    /// Collects until `need` bytes are there.
    fn fill(&mut self, input: &mut Bytes, need: usize) -> bool {
        let missing = need.saturating_sub(self.partial.len());
        let part = input.split_to(missing.min(input.len()));
        self.partial.extend_from_slice(&part);
        part.len() == missing
    }

    fn data_part(&mut self, mut rest: DataRest, input: &mut Bytes) -> Option<Frame> {
        let data = input.split_to(rest.remaining.min(input.len()));
        let (stream, offset) = (rest.stream, rest.offset);
        rest.remaining -= data.len();
        rest.offset += data.len() as u64;
        let fin = rest.fin && rest.remaining == 0;
        let empty = data.is_empty();
        if rest.remaining > 0 {
            self.data = Some(rest);
        }
        (!empty || fin).then_some(Frame::Data {
            stream,
            offset,
            data,
            fin,
        })
    }
}

/// The lengths a frame of this type may have.
fn bounds(kind: u8) -> Option<(usize, usize)> {
    Some(match kind {
        kind::HELLO => (HELLO_LENGTH, HELLO_LENGTH),
        kind::REFUSED => (2, MAX_GREETING),
        kind::DATA => (DATA_FIELDS + 1, DATA_FIELDS + MAX_DATA),
        kind::DATA_FIN => (DATA_FIELDS, DATA_FIELDS + MAX_DATA),
        kind::OPEN => (8, 8 + MAX_TARGET),
        kind::OPEN_REFUSED => (12, 12 + MAX_TEXT),
        kind::ACK => (24, 24),
        kind::RESET => (20, 20),
        kind::STOP => (12, 12),
        kind::BLOCKED | kind::WINDOW => (16, 16),
        kind::OPEN_OK | kind::LANE_ACK | kind::PING | kind::PONG | kind::LANES => (8, 8),
        kind::LANE_CLOSE | kind::RESUMED | kind::GOAWAY => (0, 0),
        kind::CLOSE => (4, 4 + MAX_TEXT),
        _ => return None,
    })
}

fn data_rest(kind: u8, length: usize, fields: &mut BytesMut) -> Result<DataRest, TryGetError> {
    let stream = StreamId(fields.try_get_u64()?);
    let offset = fields.try_get_u64()?;
    let remaining = length - DATA_FIELDS;
    // Offsets end well below the top, so that adding a length to one never overflows.
    if offset > u64::MAX / 2 {
        return Err(TryGetError {
            requested: length,
            available: 0,
        });
    }
    Ok(DataRest {
        stream,
        offset,
        remaining,
        fin: kind == kind::DATA_FIN,
    })
}

fn parse(kind: u8, mut fields: BytesMut) -> Result<Frame, TryGetError> {
    let f = &mut fields;
    Ok(match kind {
        kind::HELLO => {
            f.try_get_u8()?;
            Frame::Hello(Hello::decode(f)?)
        }
        kind::REFUSED => Frame::Refused(LaneRefusal::from_wire(f.try_get_u8()?, f.try_get_u8()?)),
        kind::WINDOW => Frame::Window {
            bytes: f.try_get_u64()?,
            streams: f.try_get_u64()?,
        },
        kind::LANE_ACK => Frame::LaneAck {
            count: f.try_get_u64()?,
        },
        kind::PING => Frame::Ping {
            nonce: f.try_get_u64()?,
        },
        kind::PONG => Frame::Pong {
            nonce: f.try_get_u64()?,
        },
        kind::LANE_CLOSE => Frame::LaneClose,
        kind::RESUMED => Frame::Resumed,
        kind::GOAWAY => Frame::GoAway,
        kind::LANES => Frame::Lanes {
            serial: f.try_get_u32()?,
            lanes: f.try_get_u32()?,
        },
        kind::CLOSE => Frame::Close {
            code: code(f)?,
            text: fields.freeze(),
        },
        // `bounds` or `greeting` has let only known types through.
        _ => return parse_of_stream(kind, fields),
    })
}

/// A frame that names a stream. `parse` has taken all other types.
fn parse_of_stream(kind: u8, mut fields: BytesMut) -> Result<Frame, TryGetError> {
    let stream = fields.try_get_u64().map(StreamId)?;
    let f = &mut fields;
    Ok(match kind {
        kind::OPEN => Frame::Open {
            stream,
            target: fields.freeze(),
        },
        kind::OPEN_OK => Frame::OpenOk { stream },
        kind::OPEN_REFUSED => Frame::OpenRefused {
            stream,
            code: code(f)?,
            text: fields.freeze(),
        },
        kind::ACK => Frame::Ack {
            stream,
            offset: f.try_get_u64()?,
            limit: f.try_get_u64()?,
        },
        kind::RESET => Frame::Reset {
            stream,
            code: code(f)?,
            final_size: f.try_get_u64()?,
        },
        kind::STOP => Frame::Stop {
            stream,
            code: code(f)?,
        },
        _ => Frame::Blocked {
            stream,
            limit: f.try_get_u64()?,
        },
    })
}

impl Hello {
    /// The fields behind the version byte.
    fn decode(fields: &mut impl Buf) -> Result<Self, TryGetError> {
        let mut trunk = TrunkId([0; 16]);
        fields.try_copy_to_slice(&mut trunk.0)?;
        Ok(Self {
            trunk,
            incarnation: fields.try_get_u64()?,
            lane: LaneId(fields.try_get_u32()?),
            oldest: LaneId(fields.try_get_u32()?),
            limits: TrunkLimits {
                max_streams: fields.try_get_u32()?,
                stream_window: fields.try_get_u64()?,
                trunk_window: fields.try_get_u64()?,
            },
        })
    }
}

impl LaneRefusal {
    fn from_wire(theirs: u8, code: u8) -> Self {
        match code {
            1 => Self::Version {
                ours: VERSION,
                theirs,
            },
            2 => Self::Identity,
            3 => Self::UnknownTrunk,
            4 => Self::TooManyLanes,
            5 => Self::LaneInUse,
            6 => Self::Malformed,
            other => Self::Unknown(other),
        }
    }
}

fn code(fields: &mut BytesMut) -> Result<Code, TryGetError> {
    fields.try_get_u32().map(Code)
}

/// A peer's text, fit for a log line.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}
