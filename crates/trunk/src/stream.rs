//! One application connection carried by the trunk: two directions that end on their own.

mod assembly;
mod flight;
mod receive;
mod send;

pub(crate) use flight::Chunk;
pub(crate) use receive::{Change, ReceiveHalf, Room};
pub(crate) use send::SendHalf;

use crate::id::{Code, StreamId};
use crate::schedule::Turn;

#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) id: StreamId,
    pub(crate) send: SendHalf,
    pub(crate) receive: ReceiveHalf,
    /// The OPEN has come, or went; frames on other lanes may come before it.
    pub(crate) opened: bool,
    /// A RESET and a STOP that overtook the OPEN.
    pub(crate) early_reset: Option<Code>,
    pub(crate) early_stop: Option<Code>,
    /// The OPEN has been answered.
    pub(crate) answered: bool,
    /// Readable was said and no read has answered it.
    pub(crate) told_readable: bool,
    pub(crate) turn: Turn,
    /// In the queue of streams with lost bytes.
    pub(crate) resending: bool,
    /// Its ACK is in the queue.
    pub(crate) ack_queued: bool,
    /// Its ACK waits for more bytes, or for the delay.
    pub(crate) ack_delayed: bool,
}

/// What a stream costs, for the trunk's accounts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    pub(crate) kept: u64,
    pub(crate) unsent: u64,
    pub(crate) frames: usize,
    pub(crate) held: u64,
    pub(crate) pieces: usize,
    /// Bytes granted and not read, beyond what every stream may have.
    pub(crate) extra: u64,
    /// One, if bytes wait for its reader.
    pub(crate) unread: u64,
}

impl Stream {
    pub(crate) fn new(id: StreamId, send: SendHalf, receive: ReceiveHalf) -> Self {
        Self {
            id,
            send,
            receive,
            opened: false,
            early_reset: None,
            early_stop: None,
            answered: false,
            told_readable: false,
            turn: Turn::default(),
            resending: false,
            ack_queued: false,
            ack_delayed: false,
        }
    }

    pub(crate) fn measure(&self) -> Measure {
        Measure {
            kept: self.send.kept(),
            unsent: self.send.unsent(),
            frames: self.send.frames(),
            held: self.receive.held(),
            pieces: self.receive.pieces(),
            extra: self.receive.extra(),
            unread: u64::from(self.receive.held() > 0),
        }
    }

    /// Both directions are over: nothing needs to be remembered.
    pub(crate) fn over(&self) -> bool {
        self.opened && self.send.ended() && self.receive.ended()
    }
}
