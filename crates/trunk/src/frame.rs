//! Frames and how they are written. Every frame is a type byte, a length of three bytes, and as
//! many bytes as the length says; numbers are big-endian.
//!
//! | type | frame | fields | length | counted |
//! | --- | --- | --- | --- | --- |
//! | 01 | HELLO | version 1, trunk 16, incarnation 8, lane 4, oldest lane 4, streams 4, stream window 8, trunk window 8 | 53 (any other version: 1 to 1,024) | no |
//! | 02 | REFUSED | version 1, code 1 | 2 to 1,024 | no |
//! | 10 | DATA | stream 8, offset 8, bytes | 17 to 65,552 | no |
//! | 11 | DATA with the stream's end | stream 8, offset 8, bytes | 16 to 65,552 | no |
//! | 12 | OPEN | stream 8, target | 8 to 1,032 | yes |
//! | 13 | OPEN_OK | stream 8 | 8 | yes |
//! | 14 | OPEN_REFUSED | stream 8, code 4, text | 12 to 268 | yes |
//! | 15 | ACK | stream 8, offset 8, limit 8 | 24 | yes |
//! | 16 | RESET | stream 8, code 4, final size 8 | 20 | yes |
//! | 17 | STOP | stream 8, code 4 | 12 | yes |
//! | 18 | BLOCKED | stream 8, limit 8 | 16 | yes |
//! | 20 | WINDOW | bytes 8, streams 8 | 16 | yes |
//! | 21 | LANE_ACK | count 8 | 8 | no |
//! | 22 | PING | nonce 8 | 8 | no |
//! | 23 | PONG | nonce 8 | 8 | no |
//! | 24 | LANE_CLOSE | | 0 | yes |
//! | 25 | RESUMED | | 0 | yes |
//! | 26 | GOAWAY | | 0 | yes |
//! | 27 | CLOSE | code 4, text | 4 to 260 | no |
//! | 28 | LANES | serial 4, lanes 4 | 8 | yes |
//!
//! Counted frames are kept by the sender until the receiver's LANE_ACK of that lane counts them;
//! when the lane dies, the rest are sent again on another. They may therefore arrive twice, and
//! after younger ones: each is written so that this does no harm.

use bytes::Bytes;

use crate::error::LaneRefusal;
use crate::hello::Hello;
use crate::id::{Code, StreamId};

/// The version of the protocol, as in the ALPN `renkei-trunk/1`.
pub const VERSION: u8 = 1;
/// The most bytes one DATA frame carries.
pub const MAX_DATA: usize = 64 * 1024;
/// The most bytes of an OPEN's target.
pub const MAX_TARGET: usize = 1024;
/// The most bytes of a text in OPEN_REFUSED and CLOSE.
pub const MAX_TEXT: usize = 256;

pub(crate) const HEAD: usize = 4;
pub(crate) const DATA_FIELDS: usize = 16;
pub(crate) const MAX_GREETING: usize = 1024;
pub(crate) const HELLO_LENGTH: usize = 53;

pub(crate) mod kind {
    pub(crate) const HELLO: u8 = 0x01;
    pub(crate) const REFUSED: u8 = 0x02;
    pub(crate) const DATA: u8 = 0x10;
    pub(crate) const DATA_FIN: u8 = 0x11;
    pub(crate) const OPEN: u8 = 0x12;
    pub(crate) const OPEN_OK: u8 = 0x13;
    pub(crate) const OPEN_REFUSED: u8 = 0x14;
    pub(crate) const ACK: u8 = 0x15;
    pub(crate) const RESET: u8 = 0x16;
    pub(crate) const STOP: u8 = 0x17;
    pub(crate) const BLOCKED: u8 = 0x18;
    pub(crate) const WINDOW: u8 = 0x20;
    pub(crate) const LANE_ACK: u8 = 0x21;
    pub(crate) const PING: u8 = 0x22;
    pub(crate) const PONG: u8 = 0x23;
    pub(crate) const LANE_CLOSE: u8 = 0x24;
    pub(crate) const RESUMED: u8 = 0x25;
    pub(crate) const GOAWAY: u8 = 0x26;
    pub(crate) const CLOSE: u8 = 0x27;
    pub(crate) const LANES: u8 = 0x28;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Hello(Hello),
    Refused(LaneRefusal),
    Data {
        stream: StreamId,
        offset: u64,
        data: Bytes,
        fin: bool,
    },
    Open {
        stream: StreamId,
        target: Bytes,
    },
    OpenOk {
        stream: StreamId,
    },
    OpenRefused {
        stream: StreamId,
        code: Code,
        text: Bytes,
    },
    Ack {
        stream: StreamId,
        offset: u64,
        limit: u64,
    },
    Reset {
        stream: StreamId,
        code: Code,
        final_size: u64,
    },
    Stop {
        stream: StreamId,
        code: Code,
    },
    Blocked {
        stream: StreamId,
        limit: u64,
    },
    Window {
        bytes: u64,
        streams: u64,
    },
    LaneAck {
        count: u64,
    },
    Ping {
        nonce: u64,
    },
    Pong {
        nonce: u64,
    },
    LaneClose,
    Resumed,
    GoAway,
    Close {
        code: Code,
        text: Bytes,
    },
    /// The acceptor's word on how many lanes there should be; the highest serial counts.
    Lanes {
        serial: u32,
        lanes: u32,
    },
}

impl Frame {
    /// Whether the receiver counts it for its LANE_ACK.
    pub(crate) fn counted(&self) -> bool {
        !matches!(
            self,
            Self::Hello(_)
                | Self::Refused(_)
                | Self::Data { .. }
                | Self::LaneAck { .. }
                | Self::Ping { .. }
                | Self::Pong { .. }
                | Self::Close { .. }
        )
    }
}
