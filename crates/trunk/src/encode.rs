//! Frames as bytes: a header on the stack, and the application's own memory behind it.

use bytes::Bytes;

use crate::error::LaneRefusal;
use crate::frame::{Frame, HEAD, HELLO_LENGTH, VERSION, kind};
use crate::hello::Hello;
use crate::id::StreamId;

impl Frame {
    pub(crate) fn encode(self) -> Transmit {
        let mut head = Head::default();
        head.put(&[self.kind(), 0, 0, 0]);
        self.fields(&mut head);
        let mut out = Transmit {
            head,
            payload: self.into_payload(),
        };
        out.seal();
        out
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Hello(_) => kind::HELLO,
            Self::Refused(_) => kind::REFUSED,
            Self::Data { fin: false, .. } => kind::DATA,
            Self::Data { fin: true, .. } => kind::DATA_FIN,
            Self::Open { .. } => kind::OPEN,
            Self::OpenOk { .. } => kind::OPEN_OK,
            Self::OpenRefused { .. } => kind::OPEN_REFUSED,
            Self::Ack { .. } => kind::ACK,
            Self::Reset { .. } => kind::RESET,
            Self::Stop { .. } => kind::STOP,
            Self::Blocked { .. } => kind::BLOCKED,
            Self::Window { .. } => kind::WINDOW,
            Self::LaneAck { .. } => kind::LANE_ACK,
            Self::Ping { .. } => kind::PING,
            Self::Pong { .. } => kind::PONG,
            Self::LaneClose => kind::LANE_CLOSE,
            Self::Resumed => kind::RESUMED,
            Self::GoAway => kind::GOAWAY,
            Self::Close { .. } => kind::CLOSE,
            Self::Lanes { .. } => kind::LANES,
        }
    }

    /// The fields of fixed length.
    fn fields<'a>(&self, head: &'a mut Head) -> &'a mut Head {
        match *self {
            Self::Hello(ref hello) => hello.encode(head),
            Self::Refused(refusal) => head.put(&[VERSION, refusal.code()]),
            Self::Data { stream, offset, .. } => head.id(stream).u64(offset),
            Self::Open { stream, .. } | Self::OpenOk { stream } => head.id(stream),
            Self::OpenRefused { stream, code, .. } | Self::Stop { stream, code } => {
                head.id(stream).u32(code.0)
            }
            Self::Ack {
                stream,
                offset,
                limit,
            } => head.id(stream).u64(offset).u64(limit),
            Self::Reset {
                stream,
                code,
                final_size,
            } => head.id(stream).u32(code.0).u64(final_size),
            Self::Blocked { stream, limit } => head.id(stream).u64(limit),
            Self::Window { bytes, streams } => head.u64(bytes).u64(streams),
            Self::LaneAck { count: number }
            | Self::Ping { nonce: number }
            | Self::Pong { nonce: number } => head.u64(number),
            Self::Close { code, .. } => head.u32(code.0),
            Self::Lanes { serial, lanes } => head.u32(serial).u32(lanes),
            Self::LaneClose | Self::Resumed | Self::GoAway => head,
        }
    }

    fn into_payload(self) -> Bytes {
        match self {
            Self::Data { data: payload, .. }
            | Self::Open {
                target: payload, ..
            }
            | Self::OpenRefused { text: payload, .. }
            | Self::Close { text: payload, .. } => payload,
            _ => Bytes::new(),
        }
    }
}

impl Hello {
    fn encode<'a>(&self, head: &'a mut Head) -> &'a mut Head {
        head.put(&[VERSION])
            .put(&self.trunk.0)
            .u64(self.incarnation)
            .u32(self.lane.0)
            .u32(self.oldest.0)
            .u32(self.limits.max_streams)
            .u64(self.limits.stream_window)
            .u64(self.limits.trunk_window)
    }
}

impl LaneRefusal {
    fn code(self) -> u8 {
        match self {
            Self::Version { .. } => 1,
            Self::Identity => 2,
            Self::UnknownTrunk => 3,
            Self::TooManyLanes => 4,
            Self::LaneInUse => 5,
            Self::Malformed => 6,
            Self::Unknown(code) => code,
        }
    }
}

/// One frame to write on a lane: its header, then its payload. The payload shares the memory
/// that the application wrote, so a vectored write copies nothing.
#[derive(Clone, Debug, Default)]
pub struct Transmit {
    head: Head,
    payload: Bytes,
}

impl Transmit {
    /// The first part, at most 57 bytes.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        self.head.bytes.get(..self.head.len).unwrap_or_default()
    }

    /// The second part; often empty.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// The second part, by value.
    #[must_use]
    pub fn into_payload(self) -> Bytes {
        self.payload
    }

    /// Both parts together.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.head.len + self.payload.len()
    }

    fn seal(&mut self) {
        let length = u32::try_from(self.len() - HEAD)
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        for (slot, byte) in self.head.bytes.iter_mut().zip(length).skip(1) {
            *slot = byte;
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    bytes: [u8; HEAD + HELLO_LENGTH],
    len: usize,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            bytes: [0; HEAD + HELLO_LENGTH],
            len: 0,
        }
    }
}

impl Head {
    /// Appends; every caller's fields fit by construction (the longest is HELLO).
    pub(crate) fn put(&mut self, field: &[u8]) -> &mut Self {
        let end = self.len + field.len();
        if let Some(slot) = self.bytes.get_mut(self.len..end) {
            slot.copy_from_slice(field);
            self.len = end;
        }
        self
    }

    pub(crate) fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_be_bytes())
    }

    fn id(&mut self, stream: StreamId) -> &mut Self {
        self.u64(stream.0)
    }
}
