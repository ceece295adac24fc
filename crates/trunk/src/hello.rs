//! The first frame of a lane, before it belongs to a trunk.

use bytes::{Buf, Bytes};

use crate::config::Limits;
use crate::decode::Decoder;
use crate::encode::{Head, Transmit};
use crate::error::Refusal;
use crate::frame::{Frame, VERSION};
use crate::id::{LaneId, TrunkId};

/// What a HELLO says. The dialer's names the trunk; the acceptor's answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The trunk that the lane belongs to.
    pub trunk: TrunkId,
    /// The acceptor's name for its own memory of the trunk; 0 from a dialer that has not been
    /// answered yet. An acceptor that was restarted has another one, and so is found out.
    pub incarnation: u64,
    /// The lane's number.
    pub lane: LaneId,
    /// Every lane of a lower number is over for the sender.
    pub oldest: LaneId,
    /// What the sender grants.
    pub limits: Limits,
}

impl Hello {
    pub(crate) fn encode<'a>(&self, head: &'a mut Head) -> &'a mut Head {
        head.put(&[VERSION])
            .put(&self.trunk.0)
            .u64(self.incarnation)
            .u32(self.lane.0)
            .u32(self.oldest.0)
            .u32(self.limits.max_streams)
            .u64(self.limits.stream_window)
            .u64(self.limits.trunk_window)
    }

    /// The fields behind the version byte.
    pub(crate) fn decode(fields: &mut impl Buf) -> Result<Self, bytes::TryGetError> {
        let mut trunk = TrunkId([0; 16]);
        fields.try_copy_to_slice(&mut trunk.0)?;
        Ok(Self {
            trunk,
            incarnation: fields.try_get_u64()?,
            lane: LaneId(fields.try_get_u32()?),
            oldest: LaneId(fields.try_get_u32()?),
            limits: Limits {
                max_streams: fields.try_get_u32()?,
                stream_window: fields.try_get_u64()?,
                trunk_window: fields.try_get_u64()?,
            },
        })
    }
}

impl Refusal {
    /// The frame that tells the dialer; write it on the lane and close.
    #[must_use]
    pub fn frame(self) -> Transmit {
        Frame::Refused(self).encode()
    }

    pub(crate) fn code(self) -> u8 {
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

    pub(crate) fn from_wire(theirs: u8, code: u8) -> Self {
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

/// Reads the HELLO of a lane that an acceptor was given. It keeps at most one frame of bytes; the
/// driver limits the time.
#[derive(Debug, Default)]
pub struct Greeting {
    decoder: Decoder,
}

impl Greeting {
    /// Waits for a HELLO.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes from the lane; `Some` when the HELLO is complete. What follows it stays in
    /// `input`, for [`Trunk::receive`](crate::Trunk::receive).
    ///
    /// # Errors
    ///
    /// Anything but a HELLO of this version within bounds: answer with [`Refusal::frame`].
    pub fn receive(&mut self, input: &mut Bytes) -> Result<Option<Hello>, Refusal> {
        match self.decoder.greeting(input)? {
            None => Ok(None),
            Some(Frame::Hello(hello)) if hello.limits.in_bounds() => Ok(Some(hello)),
            Some(_) => Err(Refusal::Malformed),
        }
    }
}
