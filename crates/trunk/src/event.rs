//! What the trunk reports to its driver.

use std::time::Instant;

use bytes::Bytes;

use crate::error::{CloseReason, LaneRefusal};
use crate::id::{Code, LaneId, StreamId};

/// Something the driver should know, from [`Trunk::poll_event`](crate::Trunk::poll_event).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The lane has greeted and carries streams.
    LaneReady(LaneId),
    /// The other end does not take the lane: close its connection.
    LaneRefused(LaneId, LaneRefusal),
    /// The lane has drained in both directions: flush, then close its connection.
    LaneClosed(LaneId),
    /// The lane is silent or given up: drop its connection. What it carried goes elsewhere.
    LaneDead(LaneId),
    /// There is no lane. The dialer should dial; without a lane by then, every stream is reset.
    Suspended {
        /// The end of the grace time.
        until: Instant,
    },
    /// There is a lane again.
    Resumed,
    /// The peer opened a stream: [`accept`](crate::Trunk::accept) or
    /// [`refuse`](crate::Trunk::refuse) it.
    Opened {
        /// The new stream.
        stream: StreamId,
        /// What the opener says about where it should go.
        target: Bytes,
    },
    /// The peer accepted our stream.
    Accepted(StreamId),
    /// The peer refused our stream; both directions are over.
    Refused {
        /// The stream that was refused.
        stream: StreamId,
        /// The peer's code.
        code: Code,
        /// The peer's words, without control characters.
        reason: String,
    },
    /// [`read`](crate::Trunk::read) has something new to say.
    Readable(StreamId),
    /// [`write`](crate::Trunk::write) takes bytes again.
    Writable(StreamId),
    /// The receive direction ended without a clean end: the connection must be reset.
    Reset(StreamId, ResetCause),
    /// The peer takes no more bytes: the send direction is over.
    Stopped(StreamId, Code),
    /// The peer has everything that was written, and the clean end behind it.
    Delivered(StreamId),
    /// Streams can be opened again after [`OpenError::StreamLimit`](crate::OpenError).
    StreamsAvailable,
    /// The peer takes no new streams; those that live go on.
    GoingAway,
    /// The trunk is over. Every stream has been reset before.
    Closed(CloseReason),
}

/// Who ended a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetCause {
    /// The peer, with its code.
    Peer(Code),
    /// The trunk that carried it is over.
    Trunk,
}

/// What [`Trunk::read`](crate::Trunk::read) found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The next bytes.
    Data(Bytes),
    /// The clean end. Said once; the direction is over.
    Finished,
    /// Nothing yet; [`Event::Readable`] says when.
    Pending,
}
