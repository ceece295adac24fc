//! The acceptor's first step on a lane: it reads the HELLO, or refuses the lane.

use bytes::Bytes;

use crate::decode::Decoder;
use crate::encode::Transmit;
use crate::error::LaneRefusal;
use crate::frame::Frame;
use crate::hello::Hello;

impl LaneRefusal {
    /// The frame with the reason for the dialer; write it on the lane and close.
    #[must_use]
    pub fn frame(self) -> Transmit {
        Frame::Refused(self).encode()
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
    /// Anything but a HELLO of this version within bounds: answer with [`LaneRefusal::frame`].
    pub fn receive(&mut self, input: &mut Bytes) -> Result<Option<Hello>, LaneRefusal> {
        match self.decoder.greeting(input)? {
            None => Ok(None),
            Some(Frame::Hello(hello)) if hello.limits.in_bounds() => Ok(Some(hello)),
            Some(_) => Err(LaneRefusal::Malformed),
        }
    }
}
